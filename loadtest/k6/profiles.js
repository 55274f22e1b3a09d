// Written by `python -m loadtest.k6` from loadtest/profiles.toml; do not edit.
export const profiles = {
  "smoke": {
    "name": "smoke",
    "kind": "load",
    "about": "does everything work: a little of everything for 20 s",
    "drain_s": 10.0,
    "stages": [
      {
        "for_s": 20.0,
        "rate_per_s": 200.0,
        "to_per_s": 200.0
      }
    ],
    "mix": {
      "channels": {
        "webhook": 0.8,
        "email": 0.2
      },
      "message_bytes": {
        "300": 0.7,
        "1000": 0.25,
        "4000": 0.05
      },
      "single_share": 0.5,
      "batch_items": 50,
      "keyed_share": 0.2,
      "ordered_share": 0.05,
      "recipients": 1000
    },
    "generator": {
      "processes": 2,
      "connections": 32,
      "timeout_s": 15.0
    },
    "search": {
      "start_per_s": 500.0,
      "step_s": 10.0,
      "hold_s": 60.0,
      "growth": 1.6,
      "precision": 0.08,
      "latency_s": 1.0
    },
    "limits": {
      "refused": 0.0,
      "unanswered": 0.0,
      "accept_p99_ms": 2000.0,
      "receiver_p99_ms": 5000.0
    }
  },
  "load": {
    "name": "load",
    "kind": "load",
    "about": "an ordinary day: 200/s by single POSTs for 3 min, after half a minute of idleness",
    "drain_s": 30.0,
    "stages": [
      {
        "for_s": 180.0,
        "rate_per_s": 200.0,
        "to_per_s": 200.0
      }
    ],
    "mix": {
      "channels": {
        "webhook": 0.8,
        "email": 0.2
      },
      "message_bytes": {
        "300": 0.7,
        "1000": 0.25,
        "4000": 0.05
      },
      "single_share": 1.0,
      "batch_items": 500,
      "keyed_share": 0.0,
      "ordered_share": 0.0,
      "recipients": 1000
    },
    "generator": {
      "processes": 2,
      "connections": 32,
      "timeout_s": 15.0
    },
    "search": {
      "start_per_s": 500.0,
      "step_s": 10.0,
      "hold_s": 60.0,
      "growth": 1.6,
      "precision": 0.08,
      "latency_s": 1.0
    },
    "limits": {
      "refused": 0.0,
      "unanswered": 0.0,
      "receiver_p50_ms": 12.0,
      "receiver_p99_ms": 50.0
    }
  },
  "stress": {
    "name": "stress",
    "kind": "stress",
    "about": "finds the capacity of batch in, webhook out: the highest rate held for 60 s with no growing backlog",
    "drain_s": 60.0,
    "stages": [
      {
        "for_s": 20.0,
        "rate_per_s": 100.0,
        "to_per_s": 100.0
      }
    ],
    "mix": {
      "channels": {
        "webhook": 1.0
      },
      "message_bytes": {
        "300": 1.0
      },
      "single_share": 0.0,
      "batch_items": 500,
      "keyed_share": 0.0,
      "ordered_share": 0.0,
      "recipients": 1000
    },
    "generator": {
      "processes": 2,
      "connections": 8,
      "timeout_s": 15.0
    },
    "search": {
      "start_per_s": 500.0,
      "step_s": 10.0,
      "hold_s": 60.0,
      "growth": 1.6,
      "precision": 0.08,
      "latency_s": 1.0
    },
    "limits": {
      "refused": 0.0,
      "unanswered": 0.0,
      "capacity_per_s": 5000.0
    }
  },
  "spike": {
    "name": "spike",
    "kind": "load",
    "about": "ten times the rate, twice, without a warning: nothing is lost, and all has arrived a minute later",
    "drain_s": 60.0,
    "stages": [
      {
        "for_s": 30.0,
        "rate_per_s": 200.0,
        "to_per_s": 200.0
      },
      {
        "for_s": 20.0,
        "rate_per_s": 2000.0,
        "to_per_s": 2000.0
      },
      {
        "for_s": 60.0,
        "rate_per_s": 200.0,
        "to_per_s": 200.0
      },
      {
        "for_s": 20.0,
        "rate_per_s": 200.0,
        "to_per_s": 2000.0
      },
      {
        "for_s": 20.0,
        "rate_per_s": 2000.0,
        "to_per_s": 200.0
      },
      {
        "for_s": 60.0,
        "rate_per_s": 200.0,
        "to_per_s": 200.0
      }
    ],
    "mix": {
      "channels": {
        "webhook": 0.8,
        "email": 0.2
      },
      "message_bytes": {
        "300": 0.7,
        "1000": 0.25,
        "4000": 0.05
      },
      "single_share": 0.1,
      "batch_items": 500,
      "keyed_share": 0.0,
      "ordered_share": 0.0,
      "recipients": 1000
    },
    "generator": {
      "processes": 2,
      "connections": 32,
      "timeout_s": 15.0
    },
    "search": {
      "start_per_s": 500.0,
      "step_s": 10.0,
      "hold_s": 60.0,
      "growth": 1.6,
      "precision": 0.08,
      "latency_s": 1.0
    },
    "limits": {
      "refused": 0.0,
      "unanswered": 0.0
    }
  },
  "soak": {
    "name": "soak",
    "kind": "load",
    "about": "an hour at half of the capacity: nothing is lost, and nothing grows",
    "drain_s": 60.0,
    "stages": [
      {
        "for_s": 3600.0,
        "rate_per_s": 2500.0,
        "to_per_s": 2500.0
      }
    ],
    "mix": {
      "channels": {
        "webhook": 0.98,
        "email": 0.02
      },
      "message_bytes": {
        "300": 1.0
      },
      "single_share": 0.002,
      "batch_items": 500,
      "keyed_share": 0.0,
      "ordered_share": 0.0,
      "recipients": 1000
    },
    "generator": {
      "processes": 2,
      "connections": 32,
      "timeout_s": 15.0
    },
    "search": {
      "start_per_s": 500.0,
      "step_s": 10.0,
      "hold_s": 60.0,
      "growth": 1.6,
      "precision": 0.08,
      "latency_s": 1.0
    },
    "limits": {
      "refused": 0.0,
      "unanswered": 0.0,
      "receiver_p99_ms": 250.0
    }
  }
};

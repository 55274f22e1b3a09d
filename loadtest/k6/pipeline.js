// What the five scripts share: a profile as k6 scenarios and thresholds, and the requests. README.md says how to run it.
//
// Arrivals are open: k6 starts requests at the profile's rate whatever the answers do. A request for which no virtual
// user is free is dropped instead of late, and a threshold allows none.

import http from "k6/http";
import { sleep } from "k6";
import exec from "k6/execution";
import { Counter, Rate, Trend } from "k6/metrics";

import { profiles } from "./profiles.js";

const TARGET = (__ENV.TARGET_URL || "http://localhost:8080").replace(/\/+$/, "");
const HOOKS = (__ENV.HOOK_URLS || "").split(",").map((url) => url.trim()).filter(Boolean);
const CREDENTIAL = __ENV.API_KEY ? { Authorization: "Bearer " + __ENV.API_KEY } : {};
const PATH = TARGET + "/api/v1/notifications";
const KEYS = 1000;
const UNIT_S = 1000; // k6 takes whole numbers of starts per time unit; so batches can be rarer than one a second
const POLL_S = 0.05;
const USERS_PER_CONNECTION = 4;
const WORDS =
  "Your order has left the warehouse and will be with you on Thursday between nine and noon. " +
  "Somebody has to be there; if nobody is, it waits for a week at the post office around the corner.\n";

const accepted = new Counter("notifications_accepted");
const refused = new Counter("notifications_refused");
const unanswered = new Counter("notifications_unanswered");
const acceptMs = new Trend("accept_ms", true);
const receiverMs = new Trend("accept_to_receiver_ms", true);
const followed = new Rate("followed_received");

let mix;
let timeout;
let drainS;

// The options of a script. RATE sets the highest rate, the others in proportion; FOR_S the length of it all.
export function optionsOf(name) {
  const profile = profiles[name];
  ({ mix, drain_s: drainS } = profile);
  timeout = profile.generator.timeout_s + "s";
  const stages = fitted(profile.kind === "stress" ? steps(profile) : profile.stages);
  const users = profile.generator.connections;
  const scenario = (name, perNotification) => arrivals(name, stages, perNotification, users);
  const scenarios = {};
  if (mix.single_share > 0) scenarios.single = scenario("single", mix.single_share);
  if (mix.single_share < 1) scenarios.batch = scenario("batch", (1 - mix.single_share) / mix.batch_items);
  const lengthS = stages.reduce((sum, stage) => sum + stage.for_s, 0);
  scenarios.follow = {
    executor: "constant-arrival-rate", exec: "follow", rate: 1, timeUnit: "1s", duration: seconds(lengthS),
    preAllocatedVUs: 10, maxVUs: Math.ceil(drainS) + 10, gracefulStop: drainS + "s",
  };
  return {
    scenarios,
    thresholds: thresholds(profile),
    discardResponseBodies: true,
    summaryTrendStats: ["med", "p(90)", "p(99)", "p(99.9)", "max"],
    userAgent: "k6-" + name,
  };
}

function seconds(s) {
  return s.toFixed(3) + "s";
}

function arrivals(name, stages, perNotification, users) {
  const rate = (perS) => Math.round(perS * perNotification * UNIT_S);
  return {
    executor: "ramping-arrival-rate", exec: name, timeUnit: UNIT_S + "s", startRate: rate(stages[0].rate_per_s),
    stages: stages.flatMap((stage) => [
      { duration: "0s", target: rate(stage.rate_per_s) }, // at once
      { duration: seconds(stage.for_s), target: rate(stage.to_per_s) },
    ]),
    preAllocatedVUs: users, maxVUs: USERS_PER_CONNECTION * users,
    gracefulStop: timeout,
  };
}

// k6 sees no backlog, so it looks for where the API ends: rate after rate, up to twice the capacity that the profile
// promises (of where the search starts, if it promises none), until a threshold ends it.
function steps({ search, limits }) {
  const found = [];
  const highest = 2 * (limits.capacity_per_s || search.start_per_s);
  for (let rate = search.start_per_s; rate <= highest; rate *= search.growth) {
    found.push({ for_s: search.step_s, rate_per_s: rate, to_per_s: rate });
  }
  return found;
}

function fitted(stages) {
  const lengthS = stages.reduce((sum, stage) => sum + stage.for_s, 0);
  const highest = Math.max(...stages.flatMap((stage) => [stage.rate_per_s, stage.to_per_s]));
  const [shorter, faster] = [(Number(__ENV.FOR_S) || lengthS) / lengthS, (Number(__ENV.RATE) || highest) / highest];
  return stages.map((stage) => ({
    for_s: stage.for_s * shorter, rate_per_s: stage.rate_per_s * faster, to_per_s: stage.to_per_s * faster,
  }));
}

function thresholds({ kind, limits }) {
  const atMost = (count) => [{ threshold: `count<=${count}`, abortOnFail: kind === "stress" }];
  const found = { dropped_iterations: atMost(0), followed_received: ["rate>=1"] };
  if ("refused" in limits) found.notifications_refused = atMost(limits.refused);
  if ("unanswered" in limits) found.notifications_unanswered = atMost(limits.unanswered);
  const percentile = (metric, p, ms) => (found[metric] = [...(found[metric] || []), `p(${p})<=${ms}`]);
  if (limits.accept_p50_ms) percentile("accept_ms", 50, limits.accept_p50_ms);
  if (limits.accept_p99_ms) percentile("accept_ms", 99, limits.accept_p99_ms);
  if (limits.receiver_p50_ms) percentile("accept_to_receiver_ms", 50, limits.receiver_p50_ms);
  if (limits.receiver_p99_ms) percentile("accept_to_receiver_ms", 99, limits.receiver_p99_ms);
  return found;
}

// Scenario `single`: one notification in a request of its own.
export function single() {
  post(PATH, item(), 1);
}

// Scenario `batch`: as many as the profile says in one request.
export function batch() {
  const items = Array.from({ length: mix.batch_items }, item);
  post(PATH + "/batch", "[" + items.join(",") + "]", mix.batch_items);
}

// Scenario `follow`: once a second one notification until it has arrived. The time is between instants of the server,
// from `created_at` to the end of the attempt that was accepted, so that looking every 50 ms costs no accuracy.
export function follow() {
  const answer = post(PATH, item(), 1, "text");
  if (answer.status !== 202) return;
  const until = Date.now() + drainS * 1000;
  const url = PATH + "/" + answer.json("id");
  while (Date.now() < until) {
    sleep(POLL_S);
    const found = http.get(url, { headers: CREDENTIAL, responseType: "text", timeout, tags: { name: "follow" } });
    if (found.status === 200 && found.json("status") === "sent") {
      const attempts = found.json("attempts");
      receiverMs.add(Date.parse(attempts[attempts.length - 1].ended_at) - Date.parse(found.json("created_at")));
      followed.add(true);
      return;
    }
  }
  followed.add(false);
}

function post(url, body, items, responseType = "none") {
  const headers = { "Content-Type": "application/json", ...CREDENTIAL };
  if (Math.random() < mix.keyed_share) headers["Idempotency-Key"] = key();
  const answer = http.post(url, body, { headers, timeout, responseType, tags: { name: url.slice(TARGET.length) } });
  if (answer.status === 202) accepted.add(items);
  else if (answer.status === 0) unanswered.add(items);
  else refused.add(items);
  if (answer.status) acceptMs.add(answer.timings.blocked + answer.timings.connecting + answer.timings.duration);
  return answer;
}

function key() {
  const { vu, scenario } = exec;
  return `k6-${scenario.startTime}-${vu.idInTest}-${vu.iterationInInstance}`;
}

function drawn(weights) {
  const entries = Object.entries(weights);
  let rest = Math.random() * entries.reduce((sum, [, weight]) => sum + weight, 0);
  for (const [value, weight] of entries) {
    rest -= weight;
    if (rest < 0) return value;
  }
  return entries[entries.length - 1][0];
}

const texts = {}; // by length, as JSON

function text(bytes) {
  texts[bytes] ||= JSON.stringify(WORDS.repeat(Math.ceil(bytes / WORDS.length)).slice(0, bytes));
  return texts[bytes];
}

function item() {
  const channel = drawn(mix.channels);
  const ordered = Math.random() < mix.ordered_share ? `"ordering_key":"order-${Math.floor(Math.random() * KEYS)}",` : "";
  const n = Math.floor(Math.random() * mix.recipients);
  const hook = HOOKS.length ? `"recipient":"${HOOKS[n % HOOKS.length].replace("{n}", n)}",` : "";
  const head =
    channel === "email"
      ? `"channel":"email","recipient":"ada-${n}@example.org","subject":"It is on its way",`
      : `"channel":"webhook",${hook}"payload":{"order":"4711","state":"shipped"},`;
  const metadata = '"metadata":{"order":"4711","source":"load test"}';
  return `{${ordered}${head}"message":${text(Number(drawn(mix.message_bytes)))},${metadata}}`;
}

"""How a run ends: all that was asked for, accepted and received becomes one sum, and the pipeline's ledger with it."""

import time
from collections import Counter

import psycopg

from loadtest.errors import RunError
from loadtest.reconcile import Reconciled, Verdict, audit_s, compare, named, received_since, verify, whereabouts
from loadtest.results import Limit
from loadtest.running import LEAD_S, Running


def reconcile(running: Running) -> None:
    """Compare the ledgers, and have the pipeline's own verified. Raises nothing: what cannot be said is noted."""
    running.event("reconciling what was accepted with what was received")
    try:
        running.crew.stop_asking()
        time.sleep(LEAD_S)
        running.look(last=True)
    except RunError as error:
        running.found.notes.append(f"The last look failed: {error}")
    measured, found = running.measured, running.found
    books = compare(running.ledgers, measured.doubtful)
    missing = _missing(running, books)
    found.limits.append(accounted_for(measured.counts, books))
    if database := running.target.database_url:
        found.ledger = verify(database, running.directory, within_s=audit_s(books.accepted))
        if running.target.stack is not None and found.ledger.clean is not None:
            doubtful = sum(count for _, count in measured.doubtful)
            found.limits += ledger_sums(found.ledger, books, doubtful=doubtful)
    count(running, books, missing)


def _missing(running: Running, books: Reconciled) -> Counter[str]:
    """What became of those accepted and not received; what has arrived in the meantime was on its way."""
    missing, lost = Counter[str](), books.missing
    try:
        if running.target.database_url:
            missing, lost = whereabouts(running.target.database_url, books.missing)
        running.crew.take()  # the receivers' ledger is written
    except (psycopg.Error, RunError) as error:
        running.found.notes.append(f"Those missing could not be looked up: {type(error).__name__}")
    arrived = len(received_since(running.ledgers, lost))
    return missing + Counter(on_their_way=arrived, lost=len(lost) - arrived)


def accounted_for(counts: Counter[str], books: Reconciled) -> Limit:
    """Whether all that was asked for had an outcome, and the generator's books hold what it counted."""
    outcomes = counts["accepted"] + counts["refused"] + counts["unanswered"]
    held = counts["asked"] == outcomes and counts["accepted"] == books.accepted
    words = f"{outcomes:,} of {counts['asked']:,}; {books.accepted:,} of {counts['accepted']:,} accepted in the books"
    return Limit("accounted for", "all that was asked for", words, held)


def ledger_sums(ledger: Verdict, books: Reconciled, *, doubtful: int) -> list[Limit]:
    """The pipeline's ledger beside ours: its database is this run's alone, so both have to be of the same."""
    received = books.received + books.unanswered_received
    low, high = books.accepted + books.unanswered_received, books.accepted + doubtful
    promised = f"{low:,}" if low >= high else f"{low:,} to {high:,}"
    return [
        Limit("ledger: accepted", promised, f"{ledger.accepted:,}", low <= ledger.accepted <= max(low, high)),
        Limit("ledger: sent", f"{received:,}", f"{ledger.sent:,}", ledger.sent == received),
    ]


def count(running: Running, books: Reconciled, missing: Counter[str]) -> None:
    """Note the figures of the reconciliation, and examples of what is wrong."""
    counts, notes = running.measured.counts, running.found.notes
    running.found.counts |= {
        **{name: counts[name] for name in ("asked", "refused", "unanswered", "requests")},
        "accepted": books.accepted,
        "received": books.received,
        "doubled": books.doubled,
        "misplaced": books.misplaced + counts["astray"],
        **{name: missing[name] for name in ("lost", "on_their_way", "at_rest", "ended_otherwise")},
        "unexplained": len(books.unexplained),
        "foreign": counts["foreign"],
        "received_without_answer": books.unanswered_received,
        "refused_deliveries": counts["refused_deliveries"],
        "repeated_deliveries": counts["received_again"],
        "retried_deliveries": counts["retries"],
        "requests_started_late": counts["late"],
    }
    if missing["lost"] or missing["on_their_way"]:
        notes.append(f"Accepted and not received, for example: {named(books.missing)}")
    if books.unexplained:
        notes.append(f"Received and never asked for, for example: {named(books.unexplained)}")
    if running.measured.refused_by:
        causes = ", ".join(f"{cause} {number:,}" for cause, number in running.measured.refused_by.most_common(8))
        notes.append(f"Notifications in requests that were not accepted, by answer: {causes}")

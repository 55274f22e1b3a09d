"use strict";
// Compares two runs. The choice is kept in the address (#a=…&b=…), so that a comparison can be linked to. All text
// from results goes in by textContent.
{
  const { runs, chosen } = JSON.parse(document.getElementById("data").textContent);
  const place = document.getElementById("comparison");
  const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
  const PERCENTILES = ["p50", "p90", "p99", "p999", "max"];
  const NOT_COMPARABLE = ["profile", "setting: target", "machine: cores", "machine: cpu", "machine: memory_gib"];
  const OPEN_AT_FIRST = ["throughput", "latency"];

  function make(tag, text, attributes = {}) {
    const element = document.createElement(tag);
    if (text !== undefined && text !== null) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }

  function figure(value) {
    return typeof value === "number" ? number.format(value) : value === undefined || value === null ? "–" : String(value);
  }

  function ratio(a, b) {
    return typeof a === "number" && typeof b === "number" && a > 0 ? (b / a).toFixed(2) + " ×" : "–";
  }

  function table(heads, rows, figures) {
    const wrapped = make("div", null, { class: "wide" });
    const made = wrapped.appendChild(make("table", null, figures ? { class: "figures" } : {}));
    const head = made.appendChild(make("thead")).appendChild(make("tr"));
    heads.forEach((text) => head.appendChild(make("th", text)));
    const body = made.appendChild(make("tbody"));
    for (const row of rows) {
      const line = body.appendChild(make("tr"));
      row.forEach((text, index) => line.appendChild(make(index ? "td" : "th", text)));
    }
    return wrapped;
  }

  function both(a, b) {
    return [...new Set([...Object.keys(a), ...Object.keys(b)])];
  }

  function part(grid, heading, rows, heads, figures) {
    if (!rows.length) return;
    const made = grid.appendChild(make("section"));
    made.appendChild(make("h2", heading));
    made.appendChild(table(heads, rows, figures));
  }

  function tables(a, b) {
    const grid = place.appendChild(make("div", null, { class: "beside" }));
    const facts = both(a.facts, b.facts).filter((name) => a.facts[name] !== b.facts[name]);
    const other = NOT_COMPARABLE.filter((name) => facts.includes(name));
    if (other.length) {
      const text = "These figures are not of the same: " + other.map((name) => name.replace(/^\w+: /, "")).join(", ") + " differ.";
      grid.before(make("p", text, { class: "note alarm" }));
    }
    part(grid, "What differed", facts.map((name) => [name, figure(a.facts[name]), figure(b.facts[name])]), ["", "A", "B"]);
    const said = (limit) => (limit ? limit.measured + (limit.held ? "" : " (not held)") : "–");
    part(
      grid,
      "Limits",
      both(a.limits, b.limits).map((name) => {
        const [one, other] = [a.limits[name], b.limits[name]];
        const promised = [...new Set([one, other].filter(Boolean).map((limit) => limit.promised))].join(" / ");
        return [name, promised, said(one), said(other)];
      }),
      ["limit", "promised", "A", "B"],
    );
    part(
      grid,
      "Latencies",
      both(a.latencies, b.latencies).flatMap((name) => {
        const [one, other] = [a.latencies[name] ?? {}, b.latencies[name] ?? {}];
        const unit = one.unit ?? other.unit;
        return PERCENTILES.map((p) => [
          name + " " + p.replace("p999", "p99.9") + ", " + unit, figure(one[p]), figure(other[p]), ratio(one[p], other[p]),
        ]);
      }),
      ["", "A", "B", "B / A"],
      true,
    );
    part(
      grid,
      "Counts",
      both(a.counts, b.counts).map((name) => [
        name, figure(a.counts[name]), figure(b.counts[name]), ratio(a.counts[name], b.counts[name]),
      ]),
      ["", "A", "B", "B / A"],
      true,
    );
  }

  // The charts of a group are drawn when it is opened first: a hidden element has no width to draw in.
  function group(name, pairs, whole) {
    const details = place.appendChild(make("details"));
    details.appendChild(make("summary", name));
    const grid = details.appendChild(make("div", null, { class: "charts" }));
    details.addEventListener("toggle", () => {
      if (!details.open || grid.childElementCount) return;
      for (const [one, other] of pairs) {
        const made = grid.appendChild(make("figure"));
        made.appendChild(make("figcaption")).appendChild(make("h3", one.name + (one.unit ? ", " + one.unit : "")));
        const chart = {
          log: false, labels: ["A", "B"], tables: [one.table, other.table], colours: [0, 1], dashes: [[], [6, 3]],
        };
        draw(made.appendChild(make("div", null, { class: "plot" })), chart, { sync: "compare", whole });
      }
    });
    details.open = OPEN_AT_FIRST.includes(name);
  }

  function plots(a, b) {
    const key = (series) => JSON.stringify([series.group, series.unit, series.name]);
    const others = new Map(b.series.map((series) => [key(series), series]));
    const pairs = a.series.filter((series) => others.has(key(series))).map((series) => [series, others.get(key(series))]);
    if (!pairs.length) return;
    place.appendChild(make("h2", "Over time"));
    place.appendChild(make("p", "What both measured, A drawn through and B dashed; of latencies each point is the highest of " +
      "its stretch of time, of all else the mean.", { class: "hint" }));
    const whole = span(pairs.flat().map(({ table }) => ({ tables: [table] })));
    for (const name of new Set(pairs.map(([one]) => one.group))) {
      group(name, pairs.filter(([one]) => one.group === name), whole);
    }
  }

  function compare() {
    const [a, b] = ["a", "b"].map((name) => document.querySelector(`input[name=${name}]:checked`)?.value);
    shown.splice(0).forEach((plot) => plot.destroy());
    place.replaceChildren();
    place.hidden = a === undefined || b === undefined || a === b;
    if (place.hidden) return;
    history.replaceState(null, "", "#" + new URLSearchParams({ a, b }));
    place.appendChild(make("h2", "A and B"));
    place.appendChild(table(["", "run", "verdict"], [["A", runs[a].title, runs[a].verdict], ["B", runs[b].title, runs[b].verdict]]));
    tables(runs[a], runs[b]);
    plots(runs[a], runs[b]);
  }

  const address = new URLSearchParams(location.hash.slice(1));
  ["a", "b"].forEach((name, index) => {
    const wanted = address.get(name) ?? chosen[index];
    document.querySelectorAll(`input[name=${name}]`).forEach((input) => {
      input.checked = input.value === wanted;
      input.addEventListener("change", compare);
    });
  });
  compare();
}

"use strict";
{
  const { charts, events } = JSON.parse(document.getElementById("data").textContent);
  for (const chart of charts) {
    const whole = span(charts.filter((other) => other.sync === chart.sync));
    draw(document.getElementById(chart.id), chart, { events, sync: chart.sync, whole });
  }
}

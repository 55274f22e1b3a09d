"use strict";
{
  const { charts, events, took_s } = JSON.parse(document.getElementById("data").textContent);
  for (const chart of charts) draw(document.getElementById(chart.id), chart, { events, took_s, sync: chart.sync });
}

"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const charts = [];
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = (more) => ({ stroke: () => color("--soft"), grid: { stroke: () => color("--line"), width: 1 },
    ticks: { stroke: () => color("--line"), width: 1 }, ...more });
  const draw = (id, options, columns) => {
    const place = document.getElementById(id);
    if (!place || !columns[0].length) return;
    const size = () => ({ width: place.clientWidth, height: 240 });
    const chart = new uPlot({ ...size(), cursor: { drag: { x: false, y: false } }, legend: { live: false }, ...options }, columns, place);
    charts.push([chart, size]);
  };
  const clock = (_, moments) => {
    const day = (seconds) => new Date((seconds - 18000) * 1e3).toISOString().slice(0, 10);
    const step = moments.length > 1 ? moments[1] - moments[0] : 60;
    return moments.map((seconds, place) => {
      const iso = new Date((seconds - 18000) * 1e3).toISOString();
      const time = step >= 86400 ? iso.slice(5, 10) : step < 60 ? iso.slice(11, 19) : iso.slice(11, 16);
      return !place || (step < 86400 && day(seconds) !== day(moments[place - 1])) ? `${time}\n${day(seconds)}` : time;
    });
  };
  const speed = data.speed;
  if (speed) {
    const series = [{ label: data.words.time },
      { label: data.words.per_second, stroke: () => color("--bar"), width: 2, paths: uPlot.paths.stepped({ align: 1 }),
        points: { show: speed.x.length < 3 } }];
    const columns = [speed.x, speed.y];
    if (speed.limit && speed.limit.some((limit) => limit !== null)) {
      series.push({ label: data.words.limit, stroke: () => color("--other"), width: 2, dash: [6, 4],
        points: { show: false } });
      columns.push(speed.limit);
    }
    draw("speed", { series, tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "America/Lima"),
      scales: { y: { range: (_, __, most) => [0, Math.max(most * 1.1, 1)] } }, axes: [axis({ space: 80, values: clock }), axis({ size: 60 })] },
    columns);
  }
  const age = data.age;
  if (age) {
    const places = age.y.map((_, place) => place);
    draw("age", { legend: { show: false }, cursor: { show: false },
      scales: { x: { time: false, range: () => [-0.6, places.length - 0.4] },
        y: { range: (_, __, most) => [0, Math.max(most * 1.1, 1)] } },
      series: [{}, { stroke: () => color("--bar"), fill: () => color("--bar"), paths: uPlot.paths.bars({ size: [0.7] }),
        points: { show: false } }],
      axes: [axis({ splits: () => places, values: () => age.x, grid: { show: false }, rotate: age.x.length > 4 && innerWidth < 700 ? -40 : 0,
        size: innerWidth < 700 ? 90 : 40 }), axis({ size: 70 })] },
    [places, age.y]);
  }
  const redraw = () => charts.forEach(([chart, size]) => { chart.setSize(size()); chart.redraw(); });
  addEventListener("resize", redraw);
  addEventListener("beforeprint", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
})();

// Draws the figures. All names are text: Plotly reads a few HTML tags in text, so they are escaped first.
(() => {
  "use strict";

  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const ROW_HEIGHT = 46;
  const EDGE = 22;
  // Without typesetMath: false, text between two dollar signs would be taken for TeX.
  const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false, showTips: false, typesetMath: false };

  const color = (name) => getComputedStyle(root).getPropertyValue("--" + name.replaceAll("_", "-")).trim();
  const text = (raw) => raw.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  // A name that does not fit above its bar is cut: about 7 px a letter.
  function fitted(name, width) {
    const letters = Math.max(8, Math.floor(width / 7));
    const all = [...name];
    return text(all.length <= letters ? name : all.slice(0, letters - 1).join("") + "…");
  }

  function layout(element, rows, axis) {
    const half = element.clientWidth * 0.66;
    const label = (row, index) => [
      { x: 0, xanchor: "left", text: fitted(row.name, half), font: { color: color("text"), size: 13 }, y: index },
      { x: 1, xanchor: "right", text: text(row.value), font: { color: color(row.quiet ? "muted" : "text"), size: 13 }, y: index },
    ];
    return {
      height: ROW_HEIGHT * rows.length + (axis.visible ? 36 : 8),
      margin: { l: 1, r: 1, t: 4, b: axis.visible ? 32 : 4 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, color: color("muted"), size: 12 },
      showlegend: false,
      dragmode: false,
      barmode: "stack",
      bargap: 0,
      hoverlabel: { bgcolor: color("surface"), bordercolor: color("line"), font: { color: color("text"), size: 13 } },
      xaxis: { fixedrange: true, showgrid: true, gridcolor: color("line"), zeroline: false, showline: false, ...axis },
      yaxis: { fixedrange: true, visible: false, range: [rows.length - 0.55, -0.75] },
      annotations: rows.flatMap(label).map((note) => ({
        ...note, xref: "paper", yref: "y", yanchor: "bottom", yshift: 8, showarrow: false, borderpad: 0,
      })),
    };
  }

  const bar = (rows, of, fill, extra) => ({
    type: "bar", orientation: "h", width: 0.28,
    y: rows.map((_, index) => index),
    x: rows.map(of),
    marker: { color: fill, ...(extra || {}) },
    customdata: rows.map((row) => text(row.detail || "")),
    hovertemplate: "%{customdata}<extra></extra>",
  });

  function costs(element, rows) {
    const most = data.cost_scale || 1;
    const track = { ...bar(rows, (row) => most - row.cost, color("track")), hoverinfo: "skip", hovertemplate: null };
    return [[bar(rows, (row) => row.cost, color("accent")), track], layout(element, rows, { visible: false, range: [0, most] })];
  }

  function tokens(element, rows) {
    const most = Math.max(1, ...rows.map((row) => row.classes.reduce((sum, each) => sum + each.tokens, 0)));
    const traces = data.token_classes.map((name, index) => ({
      ...bar(rows, (row) => row.classes[index].tokens, color(name)),
      customdata: rows.map((row) => text(row.classes[index].detail)),
    }));
    return [traces, layout(element, rows, { visible: false, range: [0, most] })];
  }

  function outcomes(element, rows) {
    const traces = data.statuses.map((name, index) => ({
      ...bar(rows, (row) => row.parts[index].share, color(name)),
      width: 0.5,
      marker: {
        color: color(name),
        line: { color: color("surface"), width: 1 },
        pattern: name === "unlabelled" ? { shape: "/", size: 8, solidity: 0.2, bgcolor: color(name), fgcolor: color("surface") } : {},
      },
      customdata: rows.map((row) => text(row.parts[index].detail)),
      text: rows.map((row) => (row.parts[index].share > 0.08 ? text(row.parts[index].percent) : "")),
      textposition: "inside",
      insidetextanchor: "middle",
      textangle: 0,
      textfont: { color: color(name === "unlabelled" ? "text" : "on-fill"), size: 13 },
    }));
    const plot = layout(element, rows, { visible: false, range: [0, 1] });
    plot.height = 64 * rows.length + 8;
    plot.yaxis.range = [rows.length - 0.6, -0.85];
    plot.annotations.forEach((note) => { note.yshift = 17; });
    return [traces, plot];
  }

  // One segment a row, with a gap between them, in one trace.
  const segments = (rows, range, below) => ({
    type: "scatter", mode: "lines", hoverinfo: "skip",
    x: rows.flatMap((row) => (range(row) ? [...range(row), null] : [])),
    y: rows.flatMap((row, index) => (range(row) ? [index + below, index + below, null] : [])),
  });

  function estimates(element, rows, form) {
    const known = rows.map((row, index) => ({ ...row, index })).filter((row) => row.estimate !== null);
    const end = form.most;
    const open = known.filter((row) => row.open);
    const traces = [
      { ...segments(rows, (row) => row.bounds, 0.19), line: { color: color("pending"), width: 2 } },
      { ...segments(rows, (row) => row.interval, 0), line: { color: color("cache_read"), width: 9 } },
      {
        type: "scatter", mode: "markers", x: open.map(() => end), y: open.map((row) => row.index), hoverinfo: "skip",
        marker: { symbol: "triangle-right", size: 12, color: color("cache_read") }, cliponaxis: false,
      },
      {
        type: "scatter", mode: "markers", x: known.map((row) => row.estimate), y: known.map((row) => row.index),
        marker: { size: 11, color: color("accent"), line: { color: color("surface"), width: 2 } }, cliponaxis: false,
        customdata: known.map((row) => text(row.detail)), hovertemplate: "%{customdata}<extra></extra>",
      },
    ];
    const plot = layout(element, rows, { visible: true, range: [0, end], ...form.axis });
    // Room for half a tick label at either end; names stay at the edge.
    plot.margin.l = plot.margin.r = EDGE;
    plot.annotations.forEach((note) => { note.xshift = note.x ? EDGE - 1 : 1 - EDGE; });
    return [traces, plot];
  }

  const figures = {
    "plot-outcomes": outcomes,
    "plot-success": (element, rows) => estimates(element, rows, { most: 1, axis: { tickformat: ".0%", tickvals: [0, 0.25, 0.5, 0.75, 1] } }),
    "plot-cost-per-success": (element, rows) =>
      estimates(element, rows, { most: data.cost_per_success_scale, axis: { tickprefix: "$", nticks: 5, exponentformat: "none" } }),
    "plot-agents": costs,
    "plot-models": costs,
    "plot-tools": costs,
    "plot-tokens": tokens,
  };

  function draw() {
    for (const [id, make] of Object.entries(figures)) {
      const element = document.getElementById(id);
      const rows = data.plots[id];
      if (rows.length === 0) {
        element.className = "empty";
        element.textContent = element.dataset.empty;
        continue;
      }
      const [traces, plot] = make(element, rows);
      Plotly.react(element, traces, plot, CONFIG);
    }
  }

  draw();
  // Names are cut to the width, and colours follow the system.
  let waiting;
  window.addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(draw, 100); });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();

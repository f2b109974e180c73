// Draws the charts of a page from their data. All names are text: Plotly reads a few HTML tags in text, so they are
// escaped first. Where several pages share a file, shows one at a time; without this script, all of them.
(() => {
  "use strict";

  const charts = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const ROW_HEIGHT = 46;
  const EDGE = 22;
  // Without typesetMath: false, text between two dollar signs would be taken for TeX.
  const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false, showTips: false, typesetMath: false };
  const FORMS = {
    number: {},
    usd: { tickprefix: "$", exponentformat: "none" },
    percent: { tickformat: ".1~%" },
    date: { type: "date" },
  };

  const color = (name) => getComputedStyle(root).getPropertyValue("--" + name.replaceAll("_", "-")).trim();
  const text = (raw) => raw.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const lines = (...all) => all.filter(Boolean).map(text).join("<br>");

  // A name that does not fit above its bar is cut: about 7 px a letter.
  function fitted(name, width) {
    const letters = Math.max(8, Math.floor(width / 7));
    const all = [...name];
    return text(all.length <= letters ? name : all.slice(0, letters - 1).join("") + "…");
  }

  const base = (height) => ({
    height,
    margin: { l: 1, r: 1, t: 4, b: 4 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, color: color("muted"), size: 12 },
    showlegend: false,
    dragmode: false,
    hoverlabel: { bgcolor: color("surface"), bordercolor: color("line"), font: { color: color("text"), size: 13 }, align: "left" },
  });

  // Rows below each other: the name above a row to the left, its figure to the right.
  function rowLayout(element, rows, axis) {
    const value = (row) => fitted(row.value, element.clientWidth * 0.6);
    const name = (row) => fitted(row.name, Math.max(60, element.clientWidth - 7 * Math.min(row.value.length, element.clientWidth * 0.6 / 7) - 16));
    const notes = (row, index) => [
      { x: 0, xanchor: "left", text: name(row), font: { color: color("text"), size: 13 }, y: index },
      { x: 1, xanchor: "right", text: value(row), font: { color: color("text"), size: 13 }, y: index },
    ];
    return {
      ...base(ROW_HEIGHT * rows.length + (axis.visible ? 52 : 8)),
      margin: { l: 1, r: 1, t: 4, b: axis.visible ? 44 : 4 },
      barmode: "stack",
      bargap: 0,
      xaxis: { fixedrange: true, showgrid: true, gridcolor: color("line"), zeroline: false, showline: false, ...axis },
      yaxis: { fixedrange: true, visible: false, range: [rows.length - 0.55, -0.75] },
      annotations: rows.flatMap(notes).map((note) => ({
        ...note, xref: "paper", yref: "y", yanchor: "bottom", yshift: 8, showarrow: false, borderpad: 0,
      })),
    };
  }

  const axisLayout = (axis) => ({
    fixedrange: true,
    gridcolor: color("line"),
    zeroline: false,
    title: { text: text(axis.title), font: { size: 12 } },
    automargin: true,
    ...FORMS[axis.form],
    ...(axis.log ? { type: "log", dtick: axis.form === "date" ? undefined : 1 } : {}),
  });

  function bars(element, chart) {
    const rows = chart.rows;
    const most = chart.scale || 1;
    const deepest = Math.max(0, ...rows.map((row) => row.parts.length));
    const offset = {
      type: "bar", orientation: "h", width: 0.3, y: rows.map((_, index) => index), x: rows.map((row) => row.start),
      marker: { color: "rgba(0,0,0,0)" }, hoverinfo: "skip",
    };
    const layers = Array.from({ length: deepest }, (_, layer) => {
      const at = rows.map((row, index) => ({ row, index, part: row.parts[layer] })).filter((each) => each.part);
      return {
        type: "bar", orientation: "h", width: 0.3,
        y: at.map((each) => each.index),
        x: at.map((each) => each.part.size),
        marker: {
          color: at.map((each) => color(each.part.shade)),
          line: { color: color("surface"), width: 1 },
          pattern: {
            shape: at.map((each) => (each.part.hatched ? "/" : "")), size: 7, solidity: 0.25,
            bgcolor: at.map((each) => color(each.part.shade)), fgcolor: at.map(() => color("surface")),
          },
        },
        customdata: at.map((each) => lines(each.row.name, `${each.part.label}: ${each.part.text}`)),
        hovertemplate: "%{customdata}<extra></extra>",
      };
    });
    const track = {
      ...offset, x: rows.map((row) => Math.max(0, most - row.start - row.parts.reduce((sum, part) => sum + part.size, 0))),
      marker: { color: color("track") },
    };
    return [[offset, ...layers, track], rowLayout(element, rows, { visible: false, range: [0, most] })];
  }

  // One segment a row, with a gap between them, in one trace.
  const segments = (rows, range, below) => ({
    type: "scatter", mode: "lines", hoverinfo: "skip",
    x: rows.flatMap((row) => (range(row) ? [...range(row), null] : [])),
    y: rows.flatMap((row, index) => (range(row) ? [index + below, index + below, null] : [])),
  });

  function scaleOf(chart, rows) {
    const ends = rows.flatMap((row) => [row.estimate, row.low, row.high, ...(row.bounds || [])]);
    if (chart.rule) ends.push(chart.rule.at);
    const known = ends.filter((end) => end !== null && Number.isFinite(end));
    const estimates = rows.map((row) => row.estimate).filter((each) => each !== null);
    // One huge upper end must not press all dots to the left.
    const most = Math.min(Math.max(0, ...known), 4 * Math.max(0, ...estimates, chart.rule ? chart.rule.at : 0)) || 1;
    const least = Math.min(0, ...known);
    return chart.axis.form === "percent" && least >= 0 ? [0, Math.max(1, Math.min(most, 1))] : [Math.max(least, -4 * most), most * 1.02];
  }

  function intervals(element, chart) {
    const rows = chart.rows.map((row) => ({ ...row, value: row.text }));
    const [start, end] = scaleOf(chart, rows);
    const cut = (low, high) => [Math.max(start, low ?? start), Math.min(end, high ?? end)];
    const known = rows.map((row, index) => ({ ...row, index })).filter((row) => row.estimate !== null);
    const open = known.filter((row) => row.low !== null && (row.high === null || row.high > end));
    const traces = [
      { ...segments(rows, (row) => row.bounds && cut(...row.bounds), 0.19), line: { color: color("pending"), width: 2 } },
      { ...segments(rows, (row) => (row.low === null && row.high === null ? null : cut(row.low, row.high)), 0), line: { color: color("cache_read"), width: 9 } },
      {
        type: "scatter", mode: "markers", x: open.map(() => end), y: open.map((row) => row.index), hoverinfo: "skip",
        marker: { symbol: "triangle-right", size: 12, color: color("cache_read") }, cliponaxis: false,
      },
      {
        type: "scatter", mode: "markers", x: known.map((row) => row.estimate), y: known.map((row) => row.index),
        marker: { size: 11, color: color("accent"), line: { color: color("surface"), width: 2 } }, cliponaxis: false,
        customdata: known.map((row) => lines(row.name, row.text)), hovertemplate: "%{customdata}<extra></extra>",
      },
    ];
    const plot = rowLayout(element, rows, { visible: true, range: [start, end], ...FORMS[chart.axis.form], nticks: 5, title: { text: text(chart.axis.title), font: { size: 12 } } });
    // Room for half a tick label at either end; names stay at the edge.
    plot.margin.l = plot.margin.r = EDGE;
    plot.annotations.forEach((note) => { note.xshift = note.x ? EDGE - 1 : 1 - EDGE; });
    if (chart.rule) {
      plot.shapes = [line(chart.rule, "x")];
      plot.annotations.push({
        text: text(chart.rule.name), x: chart.rule.at, yref: "paper", y: 0, xanchor: "left", yanchor: "bottom", xshift: 4,
        showarrow: false, font: { color: color("warning"), size: 12 },
      });
    }
    return [traces, plot];
  }

  const line = (rule, axis) => ({
    type: "line", line: { color: color("warning"), width: 1.5, dash: "dash" },
    ...(axis === "x" ? { x0: rule.at, x1: rule.at, yref: "paper", y0: 0, y1: 1 } : { y0: rule.at, y1: rule.at, xref: "paper", x0: 0, x1: 1 }),
  });

  // Nanoseconds do not fit into Plotly's dates, which are milliseconds.
  const along = (axis, value) => (axis.form === "date" ? value / 1e6 : value);

  function planeLine(chart, drawn) {
    const shade = color(drawn.shade);
    const points = drawn.points;
    const hover = points.map((point) => lines(point.name, ...point.details));
    const x = (list) => list.map((point) => along(chart.x, point.x));
    const banded = points.filter((point) => !point.quiet && point.low !== null && point.high !== null);
    const joined = points.filter((point) => !point.quiet);
    const band = drawn.connected && banded.length > 1
      ? [{
          type: "scatter", mode: "lines", hoverinfo: "skip", line: { width: 0, shape: drawn.step ? "hv" : "linear" }, fill: "toself",
          fillcolor: color("band"),
          x: [...x(banded), ...x([...banded].reverse())],
          y: [...banded.map((point) => point.high), ...[...banded].reverse().map((point) => point.low)],
        }]
      : [];
    const joint = drawn.connected
      ? [{ type: "scatter", mode: "lines", hoverinfo: "skip", x: x(joined), y: joined.map((point) => point.y), line: { color: shade, width: 2, shape: drawn.step ? "hv" : "linear" } }]
      : [];
    const bar = (list) => ({
      type: "data", symmetric: false, color: color("cache_read"), thickness: 2, width: 4,
      array: list.map((point) => (point.high === null ? 0 : point.high - point.y)),
      arrayminus: list.map((point) => (point.low === null ? 0 : point.y - point.low)),
    });
    const dots = {
      type: "scatter", mode: "markers", cliponaxis: false, x: x(points), y: points.map((point) => point.y),
      marker: { size: 9, color: points.map((point) => (point.quiet ? color("unlabelled") : shade)), line: { color: color("surface"), width: 1.5 } },
      ...(band.length ? {} : { error_y: bar(points) }),
      customdata: hover, hovertemplate: "%{customdata}<extra></extra>", name: text(drawn.name),
    };
    return [...band, ...joint, dots];
  }

  function linesChart(element, chart) {
    // Days and attempts have their names on the axis.
    const named = chart.x.log ? chart.lines.flatMap((drawn) => drawn.points.filter((point) => point.name)) : [];
    const plot = {
      ...base(380),
      margin: { l: 8, r: 16, t: 12, b: 8 },
      xaxis: { ...axisLayout(chart.x) },
      yaxis: { ...axisLayout(chart.y) },
      shapes: chart.rules.map((rule) => line(rule, rule.vertical ? "x" : "y")),
      annotations: chart.rules.map((rule) => ({
        text: text(rule.name), showarrow: false, font: { color: color("warning"), size: 12 },
        ...(rule.vertical
          ? { x: along(chart.x, rule.at), yref: "paper", y: 1, xanchor: "left", xshift: 4 }
          : { y: rule.at, xref: "paper", x: 1, xanchor: "right", yanchor: "bottom" }),
      })),
    };
    if (chart.lines.length > 1) {
      plot.showlegend = true;
      plot.legend = { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { color: color("text") } };
      plot.margin.t = 36;
    }
    const traces = chart.lines.flatMap((drawn) => planeLine(chart, drawn));
    traces.forEach((trace) => { trace.showlegend = Boolean(trace.name); });
    if (named.length && named.length <= 14) {
      traces.push({
        type: "scatter", mode: "text", hoverinfo: "skip", cliponaxis: false, showlegend: false, textposition: "top center",
        x: named.map((point) => along(chart.x, point.x)), y: named.map((point) => point.y),
        text: named.map((point) => fitted(point.name, 130)), textfont: { color: color("text"), size: 12 },
      });
    }
    return [traces, plot];
  }

  function icicle(element, chart) {
    const nodes = chart.nodes;
    // Sizes are those of whole subtrees, which float sums may miss by a hair: Plotly then draws nothing.
    const size = new Map(nodes.map((node) => [node.id, node.size]));
    const below = new Map();
    for (const node of [...nodes].reverse()) {
      size.set(node.id, Math.max(node.size, below.get(node.id) ?? 0));
      below.set(node.parent, (below.get(node.parent) ?? 0) + size.get(node.id));
    }
    const trace = {
      type: "icicle", branchvalues: "total", tiling: { orientation: "v" }, pathbar: { visible: false }, sort: false,
      ids: nodes.map((node) => node.id),
      parents: nodes.map((node) => node.parent),
      labels: nodes.map((node) => text(node.name)),
      values: nodes.map((node) => size.get(node.id)),
      customdata: nodes.map((node) => lines(node.name, node.text, ...node.details)),
      hovertemplate: "%{customdata}<extra></extra>",
      marker: {
        colors: nodes.map((node) => color(node.shade)),
        line: { color: color("surface"), width: 1 },
        pattern: {
          shape: nodes.map((node) => (node.hatched ? "/" : "")), size: 7, solidity: 0.25,
          bgcolor: nodes.map((node) => color(node.shade)), fgcolor: nodes.map(() => color("surface")),
        },
      },
      textfont: { color: color("on-fill") },
    };
    const depth = new Map();
    for (const node of nodes) depth.set(node.id, node.parent ? (depth.get(node.parent) ?? 0) + 1 : 0);
    const levels = 1 + Math.max(0, ...depth.values());
    return [[trace], { ...base(Math.min(640, 44 * levels + 16)), margin: { l: 0, r: 0, t: 0, b: 0 } }];
  }

  const kinds = { bars, intervals, lines: linesChart, icicle };

  function draw() {
    for (const [id, chart] of Object.entries(charts)) {
      const element = document.getElementById(id);
      if (element === null || element.offsetParent === null) continue;  // on a page that is not shown
      const [traces, plot] = kinds[chart.kind](element, chart);
      Plotly.react(element, traces, plot, CONFIG);
      if (chart.kind === "icicle" && !element.dataset.follows) {
        element.dataset.follows = "1";
        element.on("plotly_icicleclick", (event) => {
          const node = chart.nodes.find((each) => each.id === event.points[0].id);
          if (node && node.href) window.location.href = node.href;
          return false;
        });
      }
    }
  }

  const pages = [...document.querySelectorAll("article.page")];
  const tabs = [...document.querySelectorAll("nav.pages a[href^='#']")];

  function show() {
    const wanted = decodeURIComponent(window.location.hash.slice(1));
    const shown = pages.find((page) => wanted === page.id || wanted.startsWith(page.id + "-")) || pages[0];
    if (tabs.length > 1) {
      pages.forEach((page) => { page.hidden = page !== shown; });
      tabs.forEach((tab) => {
        if (tab.getAttribute("href") === "#" + shown.id) tab.setAttribute("aria-current", "page");
        else tab.removeAttribute("aria-current");
      });
    }
    draw();
  }

  show();
  window.addEventListener("hashchange", show);
  // Names are cut to the width, and colours follow the system.
  let waiting;
  window.addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(draw, 100); });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();

/**
 * A plot of Plotly with exports and a table behind it.
 */

import { THEME_EVENT, themeOf, watchTheme } from "xray/colors";
import { exportButtons } from "xray/export";
import { DataTable } from "xray/table";

/** The buttons that Plotly shows on a plot. By default it has one that sends the data to a server, too. */
const BUTTONS = [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]];

/**
 * @typedef {object} Drawing
 * @property {object[]|((theme: object) => object[])} traces traces of Plotly; a function is called again for a new theme
 * @property {object|((theme: object) => object)} layout layout of Plotly
 * @property {import("xray/table").Table|(() => import("xray/table").Table)} [table]
 * @property {object|(() => object)} [data] the data to export; a function is called when it is needed
 * @property {(point: {trace: number, x: *, y: *, index: *}) => string} [tooltip] lines of text
 * @property {(point: object) => void} [click]
 * @property {[number, number]} [grid] rows and columns of a picture whose pixels are the points, at 0, 1, ...
 * @property {{x?: string[], y?: string[]}} [tokens] labels of the positions 0, 1, ... of an axis; as many as fit are shown
 */

/** One plot, its exports as PNG, SVG and JSON, and a table of its numbers. */
export class Figure {
  /**
   * @param {Element} container
   * @param {{name: string, title: string}} options name: of exported files, without their suffix
   */
  constructor(container, { name, title }) {
    this.name = name;
    this.element = document.createElement("figure");
    this.element.className = "figure";
    this.element.innerHTML = `
      <div class="figure-head"><figcaption></figcaption><div class="figure-buttons"></div></div>
      <p class="figure-message" role="status" hidden></p>
      <div class="figure-body">
        <div class="figure-plot" role="img"></div>
        <div class="figure-tooltip" aria-hidden="true" hidden></div>
      </div>`;
    const find = (selector) => this.element.querySelector(selector);
    [this.caption, this.note, this.body] = [find("figcaption"), find(".figure-message"), find(".figure-body")];
    [this.plot, this.tip] = [find(".figure-plot"), find(".figure-tooltip")];
    this.buttons = find(".figure-buttons");
    exportButtons(this.buttons, () => this.name, {
      png: () => this.image("png"),
      svg: () => this.image("svg"),
      data: () => valueOf(this.drawing?.data),
    });
    this.table = new DataTable(this.element);
    this.setTitle(title);
    container.append(this.element);
    this.drawing = null;
    /** @type {(() => void)|null} draws for another width, where that takes more than the same drawing */
    this.resized = null;
    this.#watch();
    this.#show(null);
  }

  /** Change the title. */
  setTitle(title) {
    this.caption.textContent = title;
    this.plot.setAttribute("aria-label", `${title}. The table below has the numbers.`);
  }

  /** Draw, in place of what was drawn before. @param {Drawing} drawing */
  draw(drawing) {
    this.drawing = drawing;
    this.element.removeAttribute("aria-busy");
    this.#show(null);
    this.tip.hidden = true;
    this.width = this.plot.clientWidth;
    this.#render();
    this.table.set(drawing.table);
  }

  /** Outline rectangles of positions. @param {{x?: [number, number], y?: [number, number]}[]} marks a side is all by default */
  mark(marks) {
    this.marks = marks;
    if (!this.drawing) return;
    Plotly.relayout(this.plot, { shapes: this.#shapes(themeOf(this.element)) });
  }

  /** Show that what is drawn is out of date. */
  busy() {
    this.element.setAttribute("aria-busy", "true");
    if (!this.drawing || this.body.hidden) this.#show("Computing …");
  }

  /** Show a sentence in place of the plot; an empty one hides the figure. */
  message(text) {
    this.element.removeAttribute("aria-busy");
    this.#show(text);
  }

  /** Return the plot as a data URL. @param {"png"|"svg"} format */
  image(format) {
    const { clientWidth: width, clientHeight: height } = this.plot;
    return Plotly.toImage(this.plot, { format, width, height, scale: format === "png" ? 2 : 1 });
  }

  #show(text) {
    this.element.hidden = text === "";
    this.note.textContent = text ?? "";
    this.note.hidden = text === null;
    const empty = text !== null || this.drawing === null;
    this.body.hidden = this.buttons.hidden = empty;
    this.table.element.hidden = empty || !this.drawing?.table;
  }

  #shapes(theme) {
    return (this.marks ?? []).map(({ x, y }) => ({
      type: "rect",
      ...(x ? { x0: x[0] - 0.5, x1: x[1] + 0.5 } : { xref: "paper", x0: 0, x1: 1 }),
      ...(y ? { y0: y[0] - 0.5, y1: y[1] + 0.5 } : { yref: "paper", y0: 0, y1: 1 }),
      line: { color: theme.mark, width: 2 },
    }));
  }

  #render() {
    const { traces, layout, tokens = {} } = this.drawing;
    const theme = themeOf(this.element);
    const coarse = matchMedia("(pointer: coarse)").matches;
    const own = valueOf(layout, theme) ?? {};
    const full = {
      autosize: true,
      // The buttons of Plotly are above the plot, where there is a mouse.
      margin: { l: 56, r: 16, t: coarse ? 12 : 30, b: 36 },
      // A drag on a touch screen scrolls the page.
      dragmode: coarse ? false : "zoom",
      hovermode: "closest",
      showlegend: false,
      ...own,
      height: undefined,
      shapes: this.#shapes(theme),
      paper_bgcolor: theme.surface,
      plot_bgcolor: theme.surface,
      font: { color: theme.ink, size: 12, ...own.font },
      xaxis: { ...axis(theme), ...own.xaxis },
      yaxis: { ...axis(theme), ...own.yaxis },
    };
    for (const [side, labels] of Object.entries(tokens)) {
      const before = this.plot._fullLayout?.[`${side}axis`]?._length;
      const pixels = before ?? (side === "x" ? this.plot.clientWidth - 160 : (own.height ?? 320) - 110);
      const shown = ticks(labels, tickStep(labels.length, pixels));
      full[`${side}axis`] = { ...full[`${side}axis`], ...TOKEN_AXIS[side], ...shown };
    }
    const options = { responsive: true, displaylogo: false, doubleClick: "reset", plotlyServerURL: "" };
    if (coarse) options.displayModeBar = false;
    const drawn = valueOf(traces, theme);
    const narrow = this.plot.clientWidth < NARROW;
    const bars = narrow ? drawn.filter(layColorbarOnTop).length : 0;
    this.plot.style.height = `${(own.height ?? 320) + (bars ? BAR_HEIGHT : 0)}px`; // autosize takes it from there
    // Plotly cannot turn a bar of colors that it has drawn.
    if (this.narrow !== narrow) Plotly.purge(this.plot);
    Plotly.react(this.plot, drawn, full, { ...options, modeBarButtons: BUTTONS });
    if (this.narrow !== narrow) this.#listen();
    this.narrow = narrow;
    this.#tick();
  }

  /** Label as many tokens of an axis as fit. */
  #tick() {
    const update = {};
    for (const [side, labels] of Object.entries(this.drawing?.tokens ?? {})) {
      const axis = this.plot._fullLayout?.[`${side}axis`];
      if (!axis) continue;
      const [low, high] = [Math.min(...axis.range), Math.max(...axis.range)].map(Number);
      const step = tickStep(high - low, axis._length);
      const drawn = axis.tickvals.length > 1 ? axis.tickvals[1] - axis.tickvals[0] : 1;
      const outside = low < axis.tickvals[0] - drawn || high > axis.tickvals.at(-1) + drawn;
      // To draw anew takes time: labels that are somewhat too far apart can stay.
      if (!outside && drawn >= step && drawn < 2 * step) continue;
      const { tickvals, ticktext } = ticks(labels, step);
      Object.assign(update, { [`${side}axis.tickvals`]: tickvals, [`${side}axis.ticktext`]: ticktext });
    }
    if (Object.keys(update).length) Plotly.relayout(this.plot, update);
  }

  #listen() {
    this.plot.on("plotly_relayout", (change) => {
      // Labels change the margins: labelling again after that could go on forever.
      if (!Object.keys(change).some((key) => key.endsWith("ticktext"))) this.#tick();
    });
    this.plot.on("plotly_hover", ({ points: [point] }) => this.#tooltip(point));
    this.plot.on("plotly_unhover", () => (this.tip.hidden = true));
    this.plot.on("plotly_click", ({ points: [point] }) => this.#click(point));
  }

  #click(point) {
    if (!this.drawing.click) return;
    const found = pointOf(point);
    const place = JSON.stringify([found.trace, found.index]);
    // A touch screen has no hover: the first tap shows the numbers, the second one on the same place acts.
    const acts = this.touched ? place === this.tapped : true;
    this.tapped = acts ? null : place;
    if (acts) this.drawing.click(found);
    else this.#tooltip(point);
  }

  /** Handle the pointer on a grid of pixels: Plotly knows no points there. */
  #listenToGrid() {
    this.plot.addEventListener("pointermove", (event) => {
      const point = this.#gridPoint(event);
      if (point) this.#tooltip(point);
      else if (this.drawing?.grid) this.tip.hidden = true;
    });
    this.plot.addEventListener("pointerleave", () => (this.tip.hidden = true));
    this.plot.addEventListener(
      "pointerdown",
      (down) => {
        const release = (up) => {
          const moved = Math.hypot(up.clientX - down.clientX, up.clientY - down.clientY);
          const point = moved < 4 ? this.#gridPoint(down) : null;
          if (point) this.#click(point);
        };
        // Plotly covers the page with an element of its own while a button is down.
        window.addEventListener("pointerup", release, { once: true });
      },
      true,
    );
  }

  #gridPoint(event) {
    const { xaxis, yaxis } = this.plot._fullLayout ?? {};
    if (!this.drawing?.grid || !xaxis || this.body.hidden) return null;
    const box = this.plot.getBoundingClientRect();
    const [left, top] = [event.clientX - box.left - xaxis._offset, event.clientY - box.top - yaxis._offset];
    if (left < 0 || top < 0 || left > xaxis._length || top > yaxis._length) return null;
    const [x, y] = [Math.round(xaxis.p2d(left)), Math.round(yaxis.p2d(top))];
    const [rows, columns] = this.drawing.grid;
    if (x < 0 || y < 0 || x >= columns || y >= rows) return null;
    return { curveNumber: 0, x, y, pointNumber: [y, x], xaxis, yaxis };
  }

  #tooltip(point) {
    const text = this.drawing.tooltip?.(pointOf(point));
    this.tip.hidden = !text;
    if (!text) return;
    this.tip.textContent = text;
    const { xaxis, yaxis } = point;
    const left = xaxis._offset + xaxis.d2p(point.x);
    const top = yaxis._offset + yaxis.d2p(point.y);
    const right = left > this.plot.clientWidth / 2;
    this.tip.style.left = right ? "auto" : `${left + 14}px`;
    this.tip.style.right = right ? `${this.plot.clientWidth - left + 14}px` : "auto";
    this.tip.style.top = `${Math.max(0, Math.min(top + 8, this.plot.clientHeight - this.tip.offsetHeight))}px`;
  }

  #watch() {
    this.touched = false;
    this.tapped = null;
    this.#listenToGrid();
    this.plot.addEventListener("pointerdown", (event) => (this.touched = event.pointerType === "touch"), true);
    watchTheme();
    const follow = () => {
      // A column that is closed takes its figures away.
      if (!this.element.isConnected) document.removeEventListener(THEME_EVENT, follow);
      else if (this.drawing && !this.body.hidden) this.#render();
    };
    document.addEventListener(THEME_EVENT, follow);
    new ResizeObserver(() => {
      const width = this.plot.clientWidth;
      if (!this.drawing || !width || width === this.width) return;
      this.width = width;
      if (this.resized) this.resized();
      else this.#render();
    }).observe(this.body);
  }
}

const TOKEN_AXIS = {
  x: { tickmode: "array", tickvals: [], ticktext: [], tickangle: -90, automargin: true },
  y: { tickmode: "array", tickvals: [], ticktext: [], automargin: true },
};
/** Pixels for each label of an axis of tokens. */
const LABEL_SIZE = 13;

/** Pixels below which a bar of colors is above the plot, not beside it. */
const NARROW = 480;
const BAR_HEIGHT = 56;

function layColorbarOnTop(trace) {
  const bar = trace.colorbar ?? trace.marker?.colorbar;
  const side = { orientation: "h", thickness: 8, y: 1.01, yanchor: "bottom", ticklabelposition: "outside top" };
  if (bar) Object.assign(bar, side);
  return Boolean(bar);
}

/** Return how many positions there are from one label to the next, for a number of positions in some pixels. */
function tickStep(positions, pixels) {
  return Math.max(1, Math.ceil((positions * LABEL_SIZE) / Math.max(pixels, 1)));
}

function ticks(labels, step) {
  const tickvals = labels.map((_, index) => index).filter((index) => index % step === 0);
  return { tickvals, ticktext: tickvals.map((value) => escapeText(shorten(labels[value]))) };
}

function shorten(text) {
  return text.length > 14 ? `${text.slice(0, 13)}…` : text;
}

/** Return text as Plotly shows it literally: it reads some tags and entities. */
export function escapeText(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function axis(theme) {
  return { gridcolor: theme.line, linecolor: theme.line, zerolinecolor: theme.line, ticks: "" };
}

function pointOf(point) {
  return { trace: point.curveNumber, x: point.x, y: point.y, index: point.pointNumber };
}

function valueOf(value, ...parameters) {
  return typeof value === "function" ? value(...parameters) : value;
}

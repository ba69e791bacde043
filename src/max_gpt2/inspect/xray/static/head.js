/**
 * One attention head in detail: its pattern with exact values.
 */

import { format, tokenLabel } from "xray/arrays";
import { attentionCurve } from "xray/attention";
import { colorScale, colorTable } from "xray/colors";
import { Figure } from "xray/figure";
import { stateOf } from "xray/panel";

/** Bytes of patterns that are kept, so that a head that is pointed at again is there immediately. */
const CACHE_BYTES = 32 * 2 ** 20;

/** The picture of a head, a button to ablate it, and the attention of the selected token. */
export class HeadDetail {
  /**
   * @param {Element} container
   * @param {import("xray/column").Column} column
   * @param {object} page
   */
  constructor(container, column, page) {
    Object.assign(this, { column, page, place: null, pattern: null, turn: 0, cache: new Map() });
    this.element = document.createElement("div");
    this.element.className = "attention-detail";
    container.append(this.element);
    this.figure = new Figure(this.element, { name: "attention", title: "A head in detail" });
    this.figure.resized = () => this.pattern && this.#draw();
    this.figure.message("Choose a head to see its attention.");
    this.button = document.createElement("button");
    Object.assign(this.button, { type: "button", className: "figure-button attention-ablate", hidden: true });
    this.button.addEventListener("click", () => this.column.toggle(this.place.layer, this.place.head));
    this.top = document.createElement("p");
    this.top.className = "attention-top";
    this.figure.buttons.prepend(this.button);
    this.figure.body.after(this.top);
    column.addEventListener("select", () => this.#mark());
  }

  /** Show a head. */
  show(layer, head) {
    if (this.place?.layer === layer && this.place.head === head && !this.stale) return;
    this.place = { layer, head };
    this.#load();
  }

  /** Note that the state of the column has changed. */
  expire() {
    this.cache.clear();
    this.stale = true;
    this.turn += 1;
    if (!this.place) return;
    const { n_layer: layers, n_head: heads } = this.column.info;
    if (this.place.layer >= layers || this.place.head >= heads) this.place = { layer: 0, head: 0 };
    this.figure.busy();
    this.#label();
  }

  /** Show the same head in the new state. */
  refresh() {
    this.expire();
    if (this.place) this.#load();
  }

  async #load() {
    const { layer, head } = this.place;
    this.turn += 1;
    const turn = this.turn;
    this.figure.busy();
    this.#label();
    try {
      const pattern = await this.#ask(layer, head);
      if (turn !== this.turn) return;
      this.pattern = pattern;
      this.stale = false;
      this.#draw();
    } catch (error) {
      if (turn !== this.turn || error.name === "AbortError") return;
      this.pattern = null;
      this.top.textContent = "";
      this.figure.message(error.message);
    }
  }

  async #ask(layer, head) {
    const key = `${layer}:${head}`;
    const kept = this.cache.get(key);
    if (kept) return kept;
    const { cache } = this;
    const { pattern } = await this.column.ask("head", { layer, head });
    cache.set(key, pattern);
    const most = Math.max(1, Math.floor(CACHE_BYTES / pattern.data.byteLength));
    for (const old of [...cache.keys()].slice(0, -most)) cache.delete(old);
    return pattern;
  }

  #label() {
    const { layer, head } = this.place;
    const ablated = this.column.isAblated(layer, head);
    this.button.hidden = this.page.file;
    this.button.textContent = `${ablated ? "Restore" : "Ablate"} head ${head}`;
    this.button.setAttribute("aria-pressed", String(ablated));
    this.figure.setTitle(`Layer ${layer}, head ${head}${ablated ? " (ablated)" : ""}`);
  }

  #draw() {
    const { pattern, column } = this;
    const { layer, head } = this.place;
    const tokens = column.view.tokens.map(({ text }) => tokenLabel(text));
    const nameOf = (position) => `${position}: ${tokens[position]}`;
    this.figure.name = `attention-${layer}-${head}`;
    this.figure.marks = this.#marks();
    this.figure.draw({
      traces: (theme) => [pictureOf(pattern, theme), colorbarOf(theme)],
      layout: {
        height: this.#height(),
        xaxis: { title: { text: "key" }, constrain: "domain", showgrid: false, zeroline: false },
        yaxis: { title: { text: "query" }, constrain: "domain", showgrid: false, zeroline: false, autorange: "reversed" },
      },
      tokens: { x: tokens, y: tokens },
      grid: pattern.shape,
      tooltip: ({ index: [query, key] }) =>
        key > query
          ? `A query attends to itself and to the keys before it.`
          : `query ${nameOf(query)}\nkey ${nameOf(key)}\nattention ${format(pattern.at(query, key))}`,
      click: ({ index: [query] }) => column.select(query),
      table: () => this.#table(tokens),
      data: () => ({ ...stateOf(column), layer, head, pattern }),
    });
    this.#name();
  }

  /** Return the height of the picture: above the grid it leaves most of the screen to it. */
  #height() {
    const above = getComputedStyle(this.element.parentElement).flexDirection === "column";
    const most = above ? 0.34 * innerHeight : 0.65 * innerHeight;
    return Math.max(240, Math.min(above ? 460 : this.element.clientWidth, most));
  }

  #marks() {
    const { position } = this.column;
    return [{ x: [0, position], y: [position, position] }];
  }

  /** Outline the attention of the selected token. */
  #mark() {
    if (!this.pattern || this.stale) return;
    this.figure.mark(this.#marks());
    this.figure.table.set(this.figure.drawing.table);
    this.#name();
  }

  /** Name the keys with most of the attention of the selected token. */
  #name() {
    const { position, view } = this.column;
    const most = this.#keys().slice(0, 3);
    const named = most.map(([key, value]) => `${tokenLabel(view.tokens[key].text)} (${key}) ${format(value)}`);
    this.top.textContent = `${tokenLabel(view.tokens[position].text)} (${position}) attends to ${named.join(", ")}.`;
  }

  /** Return the keys of the selected token with their attention, most first. */
  #keys() {
    const { position } = this.column;
    const row = this.pattern.row(position).subarray(0, position + 1);
    return Array.from(row, (value, key) => [key, value]).sort((one, other) => other[1] - one[1]);
  }

  #table(tokens) {
    const { position } = this.column;
    return {
      columns: [`key of query ${position}`, "token", "attention"],
      rows: this.#keys().map(([key, value]) => [key, tokens[key], value]),
    };
  }
}

/** Return a trace with a pixel for each value: Plotly's heatmap takes half a second for 1,024 x 1,024. */
function pictureOf(pattern, theme) {
  const [side] = pattern.shape;
  const colors = new Uint32Array(colorTable(theme.sequential, attentionCurve).buffer);
  const pixels = new Uint32Array(side * side);
  for (let query = 0; query < side; query++) {
    for (let index = query * side, end = index + query; index <= end; index++) {
      pixels[index] = colors[Math.round(255 * Math.min(1, pattern.data[index]))];
    }
  }
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const picture = new ImageData(new Uint8ClampedArray(pixels.buffer), side, side);
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return { type: "image", source: canvas.toDataURL(), zsmooth: side > 256 ? "fast" : false, hoverinfo: "skip" };
}

/** Return an invisible trace that brings the bar of colors, which a picture lacks. */
function colorbarOf({ sequential }) {
  const colorbar = { thickness: 10, tickvals: [0, 0.1, 0.25, 0.5, 1], ticktext: ["0", "0.1", "0.25", "0.5", "1"] };
  const marker = { color: [0], cmin: 0, cmax: 1, colorscale: colorScale(sequential, attentionCurve), showscale: true, colorbar };
  return { type: "scatter", mode: "markers", x: [null], y: [null], marker, hoverinfo: "skip" };
}

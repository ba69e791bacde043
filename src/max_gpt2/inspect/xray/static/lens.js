/**
 * The logit lens: what the model would predict after each layer, at each position.
 */

import { format, tokenLabel } from "xray/arrays";
import { colorScale } from "xray/colors";
import { Figure, escapeText } from "xray/figure";
import { layerNames } from "xray/norms";
import { Loader, actionButton, controlBar, selectField, stateOf } from "xray/panel";

/** The numbers of positions that can be shown at once. */
const WIDTHS = [4, 8, 16, 32, 64, 128];
/** Pixels of a cell that has room for a token. */
const [CELL_WIDTH, CELL_HEIGHT] = [44, 18];
/** Pixels left and right of the cells. */
const [MARGINS, NARROW_MARGINS] = [170, 110];

const COLORS = [
  ["best", "probability of the most likely token"],
  ["target", "probability of the token that follows"],
  ["rank", "rank of the token that follows"],
];

/**
 * Show the logit lens of a column.
 *
 * @param {Element} element
 * @param {import("xray/column").Column} column
 * @param {object} page
 */
export function mountLens(element, column, page) {
  const panel = new LensPanel(element, column);
  panel.loader = new Loader(element, column, panel);
  column.addEventListener("select", () => panel.loader.redraw());
  return panel;
}

class LensPanel {
  constructor(element, column) {
    Object.assign(this, { column, shown: "best", first: 0, followed: null, chosen: null });
    const bar = controlBar(element);
    const redraw = () => this.loader.redraw();
    this.colors = selectField("Color", COLORS, (value) => {
      this.shown = value;
      redraw();
    });
    const widths = [["fit", "that fit"], ...WIDTHS.map((width) => [String(width), String(width)])];
    this.widths = selectField("Positions", widths, (value) => {
      this.chosen = value === "fit" ? null : Number(value);
      this.followed = null;
      redraw();
    });
    const move = (direction) => {
      this.first += direction * Math.max(1, Math.floor(this.width / 2));
      redraw();
    };
    this.earlier = actionButton("← Earlier", () => move(-1));
    this.later = actionButton("Later →", () => move(1));
    this.range = document.createElement("span");
    this.range.className = "panel-range";
    this.range.setAttribute("role", "status");
    bar.append(this.colors, this.widths, this.earlier, this.range, this.later);
    this.figure = new Figure(element, { name: "logit-lens", title: "Logit lens" });
    this.figure.resized = redraw;
  }

  load() {
    return this.column.ask("lens");
  }

  busy() {
    this.figure.busy();
  }

  fail(sentence) {
    this.figure.message(sentence);
  }

  draw(answer) {
    const { position, view } = this.column;
    const length = view.tokens.length;
    const pixels = cellPixels(this.figure.element.clientWidth);
    this.width = this.chosen ?? fitting(pixels);
    const start = this.#start(position, length);
    const stop = Math.min(length, start + this.width);
    this.range.textContent = `${start} to ${stop - 1} of ${length}`;
    this.earlier.disabled = start === 0;
    this.later.disabled = stop === length;
    const lens = new LensView(answer, view, start, stop);
    const room = pixels / (stop - start);
    this.figure.marks = start <= position && position < stop ? [{ x: [position - start, position - start] }] : [];
    this.figure.draw({
      traces: (theme) => [lens.trace(this.shown, theme, room)],
      layout: {
        height: 120 + CELL_HEIGHT * lens.names.length,
        yaxis: { type: "category", autorange: "reversed", automargin: true },
      },
      tokens: { x: lens.tokens },
      tooltip: ({ index: [row, column] }) => lens.text(row, start + column),
      click: ({ index: [, column] }) => this.column.select(start + column),
      table: () => lens.table(position),
      data: () => ({ ...stateOf(this.column), layers: lens.names, ...answer }),
    });
  }

  /** Return the first position shown: the window moves by its buttons, and follows the selected token. */
  #start(position, length) {
    const last = Math.max(0, length - this.width);
    const outside = position < this.first || position >= this.first + this.width;
    if (this.followed !== position && outside) this.first = position - Math.floor(this.width / 2);
    this.followed = position;
    this.first = Math.min(Math.max(this.first, 0), last);
    return this.first;
  }
}

function cellPixels(width) {
  return width - (width < 480 ? NARROW_MARGINS : MARGINS);
}

/** Return the largest number of positions whose tokens have room in a width in pixels. */
function fitting(pixels) {
  return Math.max(WIDTHS[0], Math.floor(pixels / CELL_WIDTH));
}

/** A part of an answer, from position `start` to before `stop`. */
class LensView {
  constructor(answer, view, start, stop) {
    Object.assign(this, { answer, view, start, stop });
    this.names = layerNames(answer.ids.shape[0]);
    this.tokens = view.tokens.slice(start, stop).map(({ text }) => tokenLabel(text));
  }

  token(id) {
    return tokenLabel(this.answer.texts[id] ?? `id ${id}`);
  }

  #rows(value) {
    const { start, stop } = this;
    return this.names.map((_, row) => Array.from({ length: stop - start }, (_, index) => value(row, start + index)));
  }

  /** Return the trace of Plotly; `room` is the width of a cell in pixels. */
  trace(shown, theme, room) {
    const { ids, probabilities, target_probabilities: targets, ranks } = this.answer;
    const trace = { type: "heatmap", y: this.names, x: this.tokens.map((_, index) => index), hoverinfo: "none" };
    if (room >= CELL_WIDTH) {
      const letters = Math.floor((room - 4) / 7);
      const label = (text) => (text.length > letters ? `${text.slice(0, letters - 1)}…` : text);
      const text = this.#rows((row, position) => escapeText(label(this.token(ids.at(row, position)))));
      Object.assign(trace, { text, texttemplate: "%{text}", textfont: { size: 11 }, xgap: 1, ygap: 1 });
    }
    if (shown === "rank") {
      const z = this.#rows((row, position) => Math.log10(ranks.at(row, position)));
      const colorbar = { thickness: 12, tickvals: [0, 1, 2, 3, 4, 5], ticktext: ["1", "10", "100", "1,000", "10,000", "100,000"] };
      return { ...trace, z, zmin: 0, zmax: 4, colorscale: colorScale([...theme.sequential].reverse()), colorbar };
    }
    const values = shown === "best" ? probabilities : targets;
    const z = this.#rows((row, position) => values.at(row, position));
    return { ...trace, z, zmin: 0, zmax: 1, colorscale: colorScale(theme.sequential), colorbar: { thickness: 12, tickformat: ".0%" } };
  }

  text(row, position) {
    const { ids, probabilities, targets, target_probabilities: own, ranks } = this.answer;
    const target = this.token(targets.data[position]);
    const last = position === this.view.tokens.length - 1;
    return [
      `After ${this.names[row]}, position ${position}: ${tokenLabel(this.view.tokens[position].text)}`,
      `most likely: ${this.token(ids.at(row, position))}, ${format(probabilities.at(row, position))}`,
      `${last ? "the model's choice" : "follows"}: ${target}, ${format(own.at(row, position))}, rank ${ranks.at(row, position)}`,
    ].join("\n");
  }

  /** Return the table of one position. */
  table(position) {
    const { ids, probabilities, targets, target_probabilities: own, ranks } = this.answer;
    const target = this.token(targets.data[position]);
    const rows = this.names.map((name, row) => [
      name,
      this.token(ids.at(row, position)),
      probabilities.at(row, position),
      target,
      own.at(row, position),
      ranks.at(row, position),
    ]);
    const columns = [`after (position ${position})`, "most likely", "probability", "follows", "probability", "rank"];
    return { columns, rows };
  }
}

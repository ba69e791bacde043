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
/** Cells shown at most unless more positions are chosen: each text takes Plotly about a millisecond. */
const MOST_CELLS = 800;
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
  column.addEventListener("select", () => panel.update());
  return panel;
}

class LensPanel {
  constructor(element, column) {
    Object.assign(this, { column, shown: "best", first: 0, width: 0, chosen: null, followed: null, asked: null });
    const bar = controlBar(element);
    this.colors = selectField("Color", COLORS, (value) => {
      this.shown = value;
      this.loader.redraw();
    });
    const widths = [["fit", "that fit"], ...WIDTHS.map((width) => [String(width), String(width)])];
    this.widths = selectField("Positions", widths, (value) => {
      this.chosen = value === "fit" ? null : Number(value);
      this.update();
    });
    const move = (direction) => {
      this.first += direction * Math.max(1, Math.floor(this.width / 2));
      this.update();
    };
    this.earlier = actionButton("← Earlier", () => move(-1));
    this.later = actionButton("Later →", () => move(1));
    this.range = document.createElement("span");
    this.range.className = "panel-range";
    this.range.setAttribute("role", "status");
    bar.append(this.colors, this.widths, this.earlier, this.range, this.later);
    this.figure = new Figure(element, { name: "logit-lens", title: "Logit lens" });
    this.figure.resized = () => this.update();
  }

  /** Show the positions that fit now, or the selected one: draw, and ask if they are not there yet. */
  update() {
    if (!this.column.view || !this.asked) return;
    const [start, stop] = this.#window();
    if (start >= this.asked[0] && stop <= this.asked[1]) this.loader.redraw();
    else this.loader.reload();
  }

  async load() {
    const [first, stop] = this.#window();
    this.asked = [first, stop];
    const answer = await this.column.ask("lens", { first, count: stop - first });
    // A file has all positions.
    return { answer, first: answer.ids.shape[1] === stop - first ? first : 0 };
  }

  busy() {
    this.figure.busy();
  }

  fail(sentence) {
    this.figure.message(sentence);
  }

  draw({ answer, first }) {
    const { position, view } = this.column;
    const [start, stop] = this.#window();
    const marks = start <= position && position < stop ? [{ x: [position - start, position - start] }] : [];
    const drawn = JSON.stringify([start, stop, this.shown, this.figure.element.clientWidth]);
    if (this.drawn === drawn && this.drawnAnswer === answer) {
      this.figure.mark(marks);
      this.figure.table.set(this.figure.drawing.table);
      return;
    }
    [this.drawn, this.drawnAnswer] = [drawn, answer];
    const lens = new LensView(answer, view, first, [start, stop]);
    const room = cellPixels(this.figure.element.clientWidth) / (stop - start);
    this.figure.marks = marks;
    this.figure.draw({
      traces: (theme) => [lens.trace(this.shown, theme, room)],
      layout: {
        height: 120 + CELL_HEIGHT * lens.names.length,
        yaxis: { type: "category", autorange: "reversed", automargin: true },
      },
      tokens: { x: lens.tokens },
      tooltip: ({ index: [row, column] }) => lens.text(row, start + column),
      click: ({ index: [, column] }) => this.column.select(start + column),
      table: () => lens.table(this.column.position),
      data: () => ({ ...stateOf(this.column), layers: lens.names, first, lens: answer }),
    });
  }

  /** Return the range of positions to show: it moves by the buttons, and follows the selected token. */
  #window() {
    const { position, view } = this.column;
    const length = view.tokens.length;
    const width = this.chosen ?? fitting(cellPixels(this.figure.element.clientWidth), this.column.info.n_layer + 1);
    const outside = position < this.first || position >= this.first + width;
    const follows = this.followed !== position || this.width !== width;
    if (follows && outside) this.first = position - Math.floor(width / 2);
    [this.followed, this.width] = [position, width];
    this.first = Math.min(Math.max(this.first, 0), Math.max(0, length - width));
    const stop = Math.min(length, this.first + width);
    this.range.textContent = `${this.first} to ${stop - 1} of ${length}`;
    this.earlier.disabled = this.first === 0;
    this.later.disabled = stop === length;
    return [this.first, stop];
  }
}

function cellPixels(width) {
  return width - (width < 480 ? NARROW_MARGINS : MARGINS);
}

/** Return the largest number of positions whose tokens have room in a width in pixels. */
function fitting(pixels, rows) {
  return Math.max(WIDTHS[0], Math.min(Math.floor(pixels / CELL_WIDTH), Math.floor(MOST_CELLS / rows)));
}

/** The positions of an answer, the first of which is `first`, from `start` to before `stop`. */
class LensView {
  constructor(answer, view, first, [start, stop]) {
    Object.assign(this, { answer, view, first, start, stop });
    this.names = layerNames(answer.ids.shape[0]);
    this.tokens = view.tokens.slice(start, stop).map(({ text }) => tokenLabel(text));
  }

  token(id) {
    return tokenLabel(this.answer.texts[id] ?? `id ${id}`);
  }

  /** Return a value for each row and position; it is a function of the row and the column of the answer's arrays. */
  #rows(value) {
    const { first, start, stop } = this;
    const columns = Array.from({ length: stop - start }, (_, index) => start - first + index);
    return this.names.map((_, row) => columns.map((column) => value(row, column)));
  }

  /** Return the trace of Plotly; `room` is the width of a cell in pixels. */
  trace(shown, theme, room) {
    const { ids, probabilities, target_probabilities: targets, ranks } = this.answer;
    const trace = { type: "heatmap", y: this.names, x: this.tokens.map((_, index) => index), hoverinfo: "none" };
    if (room >= CELL_WIDTH) {
      const letters = Math.floor((room - 4) / 7);
      const label = (text) => (text.length > letters ? `${text.slice(0, letters - 1)}…` : text);
      const text = this.#rows((row, column) => escapeText(label(this.token(ids.at(row, column)))));
      Object.assign(trace, { text, texttemplate: "%{text}", textfont: { size: 11 }, xgap: 1, ygap: 1 });
    }
    if (shown === "rank") {
      const z = this.#rows((row, column) => Math.log10(ranks.at(row, column)));
      const colorbar = { thickness: 12, tickvals: [0, 1, 2, 3, 4, 5], ticktext: ["1", "10", "100", "1,000", "10,000", "100,000"] };
      return { ...trace, z, zmin: 0, zmax: 4, colorscale: colorScale([...theme.sequential].reverse()), colorbar };
    }
    const values = shown === "best" ? probabilities : targets;
    const z = this.#rows((row, column) => values.at(row, column));
    return { ...trace, z, zmin: 0, zmax: 1, colorscale: colorScale(theme.sequential), colorbar: { thickness: 12, tickformat: ".0%" } };
  }

  /** Return the values at a layer and a position. */
  #at(row, position) {
    const { ids, probabilities, targets, target_probabilities: own, ranks } = this.answer;
    const column = position - this.first;
    return {
      best: this.token(ids.at(row, column)),
      probability: probabilities.at(row, column),
      target: this.token(targets.data[column]),
      own: own.at(row, column),
      rank: ranks.at(row, column),
    };
  }

  text(row, position) {
    const { best, probability, target, own, rank } = this.#at(row, position);
    const follows = position === this.view.tokens.length - 1 ? "the model's choice" : "follows";
    return [
      `After ${this.names[row]}, position ${position}: ${tokenLabel(this.view.tokens[position].text)}`,
      `most likely: ${best}, ${format(probability)}`,
      `${follows}: ${target}, ${format(own)}, rank ${rank}`,
    ].join("\n");
  }

  /** Return the table of one position; of the first one shown if that one is not. */
  table(position) {
    const shown = position >= this.start && position < this.stop ? position : this.start;
    const rows = this.names.map((name, row) => {
      const { best, probability, target, own, rank } = this.#at(row, shown);
      return [name, best, probability, target, own, rank];
    });
    const columns = [`after (position ${shown})`, "most likely", "probability", "follows", "probability", "rank"];
    return { columns, rows };
  }
}

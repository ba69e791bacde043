/**
 * Norms of the residual stream: a heatmap over layers and positions, and the line of the selected position.
 */

import { format, tokenLabel } from "xray/arrays";
import { colorScale } from "xray/colors";
import { Figure } from "xray/figure";
import { Loader, controlBar, selectField, stateOf } from "xray/panel";

/** Return the names of the rows of [n_layer + 1, seq]: the embeddings, then the output of each block. */
export function layerNames(count) {
  return Array.from({ length: count }, (_, row) => (row === 0 ? "embeddings" : `h.${row - 1}`));
}

/**
 * Show the norms of a column.
 *
 * @param {Element} element
 * @param {import("xray/column").Column} column
 * @param {object} page
 */
export function mountNorms(element, column, page) {
  const panel = new NormsPanel(element, column);
  panel.loader = new Loader(element, column, panel);
  column.addEventListener("select", () => panel.loader.redraw());
  return panel;
}

class NormsPanel {
  constructor(element, column) {
    this.column = column;
    this.shown = "norms";
    const options = [
      ["norms", "norm"],
      ["change", "change against the model without ablations"],
    ];
    this.field = selectField("Color", options, (value) => {
      this.shown = value;
      this.loader.redraw();
    });
    controlBar(element).append(this.field);
    this.line = new Figure(element, { name: "norms-position", title: "Norm at the selected token" });
    this.map = new Figure(element, { name: "norms", title: "Norm at each token" });
    this.drawn = null;
  }

  load() {
    return this.column.ask("norms");
  }

  busy() {
    for (const figure of [this.line, this.map]) figure.busy();
  }

  fail(sentence) {
    this.line.message(sentence);
    this.map.message("");
  }

  draw(answer) {
    this.field.hidden = !answer.base_norms;
    this.#drawLine(answer);
    const shown = answer.base_norms ? this.shown : "norms";
    const marks = [{ x: [this.column.position, this.column.position] }];
    const same = this.drawn?.answer === answer && this.drawn.shown === shown;
    this.drawn = { answer, shown };
    if (same) {
      this.map.mark(marks);
    } else {
      this.map.marks = marks;
      this.#drawMap(answer, shown);
    }
  }

  #drawLine({ norms, base_norms: base }) {
    const { position, view } = this.column;
    const names = layerNames(norms.shape[0]);
    const at = (array) => names.map((_, row) => array.at(row, position));
    const values = at(norms);
    const before = base ? at(base) : null;
    const label = tokenLabel(view.tokens[position].text);
    this.line.setTitle(`Norm of the residual stream at position ${position} (${label})`);
    const lineOf = (y, name, color, dash) => ({ x: names, y, name, mode: "lines+markers", hoverinfo: "none", line: { color, dash } });
    this.line.draw({
      traces: (theme) => [
        ...(before ? [lineOf(before, "without ablations", theme.quiet, "dot")] : []),
        lineOf(values, before ? "with ablations" : "norm", theme.mark, "solid"),
      ],
      layout: { height: 260, showlegend: before !== null, legend: LEGEND, yaxis: { title: { text: "norm" }, rangemode: "tozero" }, xaxis: { type: "category", automargin: true } },
      tooltip: ({ x, index }) => normText(x, values[index], before?.[index]),
      table: () => ({
        columns: ["after", "norm", ...(before ? ["without ablations", "change"] : [])],
        rows: names.map((name, row) => [name, values[row], ...(before ? [before[row], values[row] - before[row]] : [])]),
      }),
      data: () => ({ ...stateOf(this.column), position, layers: names, norms: values, base_norms: before }),
    });
  }

  #drawMap({ norms, base_norms: base }, shown) {
    const names = layerNames(norms.shape[0]);
    const tokens = this.column.view.tokens.map(({ text }) => tokenLabel(text));
    const change = shown === "change";
    const picture = change ? changeColors : normColors;
    this.map.setTitle(change ? "Change of the norm by the ablations" : "Norm of the residual stream");
    this.map.draw({
      traces: (theme) => [
        { type: "heatmap", ...picture(theme, norms, base), x: tokens.map((_, index) => index), y: names, hoverinfo: "none" },
      ],
      layout: { height: 130 + 14 * names.length, yaxis: { type: "category", autorange: "reversed", automargin: true } },
      tokens: { x: tokens },
      tooltip: ({ index: [row, position] }) =>
        `${position}: ${tokens[position]}\n${normText(names[row], norms.at(row, position), base?.at(row, position))}`,
      click: ({ index: [, position] }) => this.column.select(position),
      table: () => normTable(tokens, names, norms, base),
      data: () => ({ ...stateOf(this.column), layers: names, norms, base_norms: base ?? null }),
    });
  }
}

/** A legend in one line above the plot. */
export const LEGEND = { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 };

function normText(name, value, before) {
  const compared = before === undefined ? "" : `\nwithout ablations: ${format(before)}\nchange: ${format(value - before)}`;
  return `after ${name}: ${format(value)}${compared}`;
}

/** Return values and colors of norms, on a logarithmic scale: those of the first token are far above the others. */
function normColors(theme, norms) {
  const [rows] = norms.shape;
  const z = Array.from({ length: rows }, (_, row) => Array.from(norms.row(row), (value) => Math.log10(value)));
  const powers = [-2, -1, 0, 1, 2, 3, 4, 5];
  const tickvals = powers.flatMap((power) => [1, 2, 5].map((digit) => Math.log10(digit * 10 ** power)));
  const ticktext = tickvals.map((value) => format(10 ** value));
  return { z, colorscale: colorScale(theme.sequential), colorbar: { thickness: 12, tickmode: "array", tickvals, ticktext } };
}

function changeColors(theme, norms, base) {
  const [rows] = norms.shape;
  const z = Array.from({ length: rows }, (_, row) => {
    const before = base.row(row);
    return Array.from(norms.row(row), (value, index) => value - before[index]);
  });
  return { z, zmid: 0, colorscale: colorScale(theme.diverging), colorbar: { thickness: 12 } };
}

function normTable(tokens, names, norms, base) {
  const rows = tokens.flatMap((token, position) =>
    names.map((name, row) => {
      const [value, before] = [norms.at(row, position), base?.at(row, position)];
      return [position, token, name, value, ...(base ? [before, value - before] : [])];
    }),
  );
  return { columns: ["position", "token", "after", "norm", ...(base ? ["without ablations", "change"] : [])], rows };
}

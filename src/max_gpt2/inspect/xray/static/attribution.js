/**
 * Direct attribution: the parts of a logit, or of the difference of two, that heads and MLPs have written.
 */

import { format, tokenLabel } from "xray/arrays";
import { TokenChooser } from "xray/chooser";
import { colorScale } from "xray/colors";
import { Figure } from "xray/figure";
import { LEGEND } from "xray/norms";
import { Loader, controlBar, selectField, stateOf } from "xray/panel";

/**
 * Show the attribution of a token of a column.
 *
 * @param {Element} element
 * @param {import("xray/column").Column} column
 * @param {object} page
 */
export function mountAttribution(element, column, page) {
  const panel = new AttributionPanel(element, column, page);
  panel.loader = new Loader(element, column, panel);
  column.addEventListener("select", () => panel.loader.reload());
  return panel;
}

class AttributionPanel {
  constructor(element, column, page) {
    Object.assign(this, { column, page, change: false });
    const bar = controlBar(element);
    const shared = {
      file: page.file,
      change: () => this.loader.reload(),
      fail: (sentence) => this.fail(sentence),
    };
    this.token = new TokenChooser(bar, column, { label: "Logit of", optional: false, ...shared });
    this.minus = new TokenChooser(bar, column, { label: "minus that of", optional: true, ...shared });
    this.minus.field.hidden = page.file;
    const shown = [
      ["parts", "parts"],
      ["change", "change by the ablations"],
    ];
    this.field = selectField("Show", shown, (value) => {
      this.change = value === "change";
      this.loader.redraw();
    });
    bar.append(this.field);
    this.sum = document.createElement("p");
    this.sum.className = "panel-sum";
    this.sum.setAttribute("role", "status");
    element.append(this.sum);
    this.heads = new Figure(element, { name: "attribution-heads", title: "Heads" });
    this.others = new Figure(element, { name: "attribution-mlps", title: "MLPs, embeddings and biases" });
  }

  load() {
    for (const chooser of [this.token, this.minus]) chooser.update();
    this.asked = { token: this.token.id, minus: this.minus.id, position: this.column.position };
    return this.column.ask("attribution", this.asked);
  }

  busy() {
    for (const figure of [this.heads, this.others]) figure.busy();
  }

  fail(sentence) {
    this.sum.textContent = "";
    this.heads.message(sentence);
    this.others.message("");
  }

  draw(answer) {
    this.field.hidden = !answer.base_heads;
    const parts = new Parts(answer, this.change);
    this.sum.textContent = this.#summary(answer, parts);
    this.#drawHeads(parts);
    this.#drawOthers(parts);
  }

  #name(id, chooser) {
    return tokenLabel(this.loader.answer.texts[id] ?? chooser.text);
  }

  #summary(answer, parts) {
    const { token, minus, position } = this.asked;
    const subject =
      minus === null
        ? `Logit of ${this.#name(token, this.token)}`
        : `Logit of ${this.#name(token, this.token)} minus that of ${this.#name(minus, this.minus)}`;
    const change = parts.hasBase ? `, ${signed(answer.total - answer.base_total)} by the ablations` : "";
    return `${subject} after position ${position}: ${format(answer.total)}${change}. ${parts.sums()}`;
  }

  #toggle(layer, head) {
    if (!this.page.file) this.column.toggle(layer, head);
  }

  #data() {
    return { ...stateOf(this.column), ...this.asked, ...this.loader.answer };
  }

  #drawHeads(parts) {
    const [layers, heads] = parts.shape;
    const layerTexts = range(layers).map(String);
    const most = parts.mostOf("heads");
    this.heads.setTitle(parts.change ? "Change of the parts of the heads" : "Parts of the heads");
    this.heads.draw({
      traces: (theme) => [
        {
          type: "heatmap",
          x: range(heads),
          y: range(layers),
          z: range(layers).map((layer) => range(heads).map((head) => parts.head(layer, head).shown)),
          text: range(layers).map((layer) => range(heads).map((head) => (this.column.isAblated(layer, head) ? "×" : ""))),
          texttemplate: "%{text}",
          textfont: { size: 14 },
          ...{ zmin: -most, zmax: most, colorscale: colorScale(theme.diverging) },
          ...{ xgap: 1, ygap: 1, hoverinfo: "none", colorbar: { thickness: 12 } },
        },
      ],
      layout: {
        height: 110 + Math.max(16, Math.min(26, 300 / layers)) * layers,
        xaxis: { title: { text: "head" }, dtick: heads > 16 ? 2 : 1, zeroline: false, showgrid: false },
        yaxis: { title: { text: "layer" }, dtick: layers > 24 ? 2 : 1, autorange: "reversed", zeroline: false, showgrid: false },
      },
      tooltip: ({ index: [layer, head] }) =>
        `${parts.text(`head ${head} of layer ${layer}`, parts.head(layer, head))}${this.#ablated(layer, head)}`,
      click: ({ index: [layer, head] }) => this.#toggle(layer, head),
      table: () => ({
        columns: ["layer", "head", ...parts.columns(), ...(this.page.file ? [] : ["ablated"])],
        rows: layerTexts.flatMap((_, layer) =>
          range(heads).map((head) => [layer, head, ...parts.cells(parts.head(layer, head)), ...this.#button(layer, head)]),
        ),
      }),
      data: () => this.#data(),
    });
  }

  #drawOthers(parts) {
    const [layers] = parts.shape;
    const names = ["embeddings", ...range(layers).map((layer) => `h.${layer}`), "ln_f"];
    const mlps = range(layers).map((layer) => parts.of("mlps", layer));
    const biases = range(layers).map((layer) => parts.of("biases", layer));
    const ends = [parts.of("embeddings"), parts.of("ln_f")];
    const inner = names.slice(1, -1);
    const bars = [
      { name: "MLPs", x: inner, parts: mlps, titles: inner.map((name) => `${name}.mlp`) },
      { name: "attention biases", x: inner, parts: biases, titles: inner.map((name) => `bias of ${name}.attn`) },
      { name: "embeddings, bias of ln_f", x: ["embeddings", "ln_f"], parts: ends, titles: ["embeddings", "bias of ln_f"] },
    ];
    const colorsOf = (theme) => (theme.dark ? ["#6fb1ec", "#e6a15c", theme.quiet] : ["#2f78bd", "#c8701a", theme.quiet]);
    this.others.setTitle(`${parts.change ? "Change of the parts" : "Parts"} of MLPs, embeddings and biases`);
    this.others.draw({
      traces: (theme) =>
        bars.map(({ name, x, parts: shares }, index) => {
          const color = colorsOf(theme)[index];
          const hidden = range(layers).map((layer) => (index === 0 && this.column.isAblated(layer, null) ? "×" : ""));
          return { type: "bar", name, x, y: shares.map(({ shown }) => shown), text: index === 0 ? hidden : [], marker: { color }, hoverinfo: "none" };
        }),
      layout: {
        height: 280,
        barmode: "relative",
        showlegend: true,
        legend: LEGEND,
        xaxis: { type: "category", categoryorder: "array", categoryarray: names, automargin: true },
        yaxis: { title: { text: "logit" } },
      },
      tooltip: ({ trace, index }) => {
        const { titles, parts: shares } = bars[trace];
        return `${parts.text(titles[index], shares[index])}${trace === 0 ? this.#ablated(index, null) : ""}`;
      },
      click: ({ trace, index }) => trace === 0 && this.#toggle(index, null),
      table: () => ({
        columns: ["part", ...parts.columns(), ...(this.page.file ? [] : ["ablated"])],
        rows: bars.flatMap(({ titles, parts: shares }, trace) =>
          shares.map((share, index) => [titles[index], ...parts.cells(share), ...(trace === 0 ? this.#button(index, null) : this.page.file ? [] : [""])]),
        ),
      }),
      data: () => this.#data(),
    });
  }

  #ablated(layer, head) {
    const ablated = this.column.isAblated(layer, head);
    if (this.page.file) return ablated ? "\nablated" : "";
    return ablated ? "\nablated: click to restore" : "\nclick to ablate";
  }

  #button(layer, head) {
    if (this.page.file) return [];
    const pressed = this.column.isAblated(layer, head);
    return [{ text: pressed ? "Restore" : "Ablate", pressed, action: () => this.#toggle(layer, head) }];
  }
}

/** The parts of an answer: what is shown of each, its value, and what it was without ablations. */
class Parts {
  constructor(answer, change) {
    this.answer = answer;
    this.hasBase = Boolean(answer.base_heads);
    this.change = change && this.hasBase;
    this.shape = answer.heads.shape;
  }

  head(layer, head) {
    return this.#share((array) => array.at(layer, head), "heads");
  }

  /** Return a part by name; a layer's for those that each layer has. */
  of(name, layer) {
    return this.#share((value) => (layer === undefined ? value : value.at(layer)), name);
  }

  #share(read, name) {
    const value = read(this.answer[name]);
    const before = this.hasBase ? read(this.answer[`base_${name}`]) : undefined;
    return { value, before, shown: this.change ? value - before : value };
  }

  /** Return the largest magnitude shown of the heads. */
  mostOf() {
    const [layers, heads] = this.shape;
    const all = range(layers).flatMap((layer) => range(heads).map((head) => Math.abs(this.head(layer, head).shown)));
    return Math.max(...all, 1e-9);
  }

  columns() {
    return this.hasBase ? ["logit", "without ablations", "change"] : ["logit"];
  }

  cells({ value, before }) {
    return this.hasBase ? [value, before, value - before] : [value];
  }

  text(title, { value, before }) {
    const compared = this.hasBase ? `\nwithout ablations: ${format(before)}\nchange: ${signed(value - before)}` : "";
    return `${title}: ${format(value)}${compared}`;
  }

  /** Return a sentence with the sums of the parts, which add up to the total. */
  sums() {
    const { heads, mlps, biases, embeddings, ln_f: bias } = this.answer;
    const [ofHeads, ofMlps, ofBiases] = [heads, mlps, biases].map(({ data }) => data.reduce((sum, one) => sum + one, 0));
    const total = ofHeads + ofMlps + ofBiases + embeddings + bias;
    return (
      `Heads ${format(ofHeads)} + MLPs ${format(ofMlps)} + embeddings ${format(embeddings)} + ` +
      `biases ${format(ofBiases + bias)} = ${format(total)}.`
    );
  }
}

function signed(value) {
  return `${value >= 0 ? "+" : ""}${format(value)}`;
}

function range(length) {
  return Array.from({ length }, (_, index) => index);
}

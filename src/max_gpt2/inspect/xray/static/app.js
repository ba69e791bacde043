import { mountAblations } from "xray/ablations";
import { mountAttention } from "xray/attention";
import { mountAttribution } from "xray/attribution";
import { Column } from "xray/column";
import { mountCompare } from "xray/compare";
import { joined, mountControls } from "xray/controls";
import { count, element } from "xray/format";
import { Keys } from "xray/keys";
import { mountLens } from "xray/lens";
import { mountNext } from "xray/next";
import { mountNorms } from "xray/norms";
import { openSource } from "xray/source";
import { mountTheme } from "xray/theme";
import { mountTokens } from "xray/tokens";

/** The functions that mount the panels, by the name of the panel. */
const MOUNTS = {
  controls: mountControls,
  tokens: mountTokens,
  ablations: mountAblations,
  next: mountNext,
  attribution: mountAttribution,
  attention: mountAttention,
  lens: mountLens,
  norms: mountNorms,
};
const find = (id) => document.getElementById(id);

/** The page: its columns, the one that was used last, and what acts on them. */
class App {
  #comparison = null;

  constructor(source, info) {
    this.source = source;
    this.page = { info, file: source.file, announce, alert: showAlert };
    this.columns = [];
    this.parts = []; // the panels of each column, by name
    this.active = 0;
    find("compare").addEventListener("click", () => this.compare());
    new Keys(find("help"), find("help-button"), this.#shortcuts());
  }

  #shortcuts() {
    const part = (name) => this.parts[this.active][name];
    const column = () => this.columns[this.active];
    const live = true;
    const all = [
      { key: "t", title: "edit the text", live, action: () => part("controls").text.focus() },
      { key: "s", title: "sample a token", live, action: () => part("next").steps.sample() },
      { key: "g", title: "append the most likely token", live, action: () => part("next").steps.greedy() },
      { key: "1-9", title: "append the 1st to 9th most likely token", live, action: (key) => part("next").steps.choose(key - 1) },
      { key: "b", title: "back in the history, also of ablations", live, action: () => column().back() },
      { key: "f", title: "forward in the history", live, action: () => column().forward() },
      { key: "x", title: "clear all ablations", live, action: () => part("ablations").clear() },
      { key: "c", title: "compare, or stop comparing", live, action: () => this.compare() },
      { key: "d", title: "change the theme", action: () => find("theme").click() },
    ];
    return this.page.file ? all.filter((one) => !one.live) : all;
  }

  /** Add a column with all panels, and return it. */
  addColumn(model) {
    const index = this.columns.length;
    const column = new Column(this.source, this.page.info, model);
    const section = find("column-template").content.cloneNode(true).firstElementChild;
    find("columns").append(section);
    this.columns.push(column);
    column.addEventListener("failure", (event) => showAlert(event.detail));
    column.addEventListener("state", () => showAlert(""));
    column.addEventListener("view", () => this.#title());
    for (const event of ["focusin", "pointerdown"]) section.addEventListener(event, () => (this.active = index));
    const parts = {};
    for (const panel of section.querySelectorAll("[data-panel]")) {
      const { panel: name } = panel.dataset;
      parts[name] = MOUNTS[name](panel.querySelector(".panel-body"), column, this.page);
    }
    this.parts.push(parts);
    return column;
  }

  #title() {
    const comparing = find("compare").getAttribute("aria-pressed") === "true";
    for (const [index, section] of [...find("columns").children].entries()) {
      const name = `${"AB"[index]}: ${this.columns[index].info.name}`;
      section.querySelector("h2").textContent = comparing ? name : "";
      section.setAttribute("aria-label", comparing ? name : "Text and model");
    }
  }

  /** Open the second column, with the other model if there is one; close it if it is open. */
  async compare() {
    const opens = find("compare").getAttribute("aria-pressed") !== "true";
    if (this.page.file || (opens && !this.columns[0].view)) return;
    find("compare").setAttribute("aria-pressed", String(opens));
    find("comparison").hidden = !opens;
    if (this.#comparison) {
      find("columns").lastElementChild.hidden = !opens;
      this.#comparison.activate(opens);
    } else await this.#openSecond();
    if (!opens) this.active = 0;
    this.#title();
    announce(opens ? "Two columns." : "One column.");
  }

  async #openSecond() {
    const [first] = this.columns;
    const { models } = this.page.info;
    const model = models.length > 1 ? (first.model + 1) % models.length : first.model;
    const second = this.addColumn(model);
    this.#comparison = mountCompare(find("comparison"), first, second, this.page);
    const { tokens } = first.view;
    const bos = tokens[0].id === first.info.bos;
    await this.parts[1].controls.show(joined(tokens.slice(bos ? 1 : 0)), bos, model);
  }
}

/** Show the verdicts of `max-gpt2 verify` at the foot of the page. */
function showVerdicts(models) {
  const rows = models.map(({ name, n_layer, n_head, parameters, verdict }) => {
    const state = verdict.passed === null ? "unknown" : verdict.passed ? "passed" : "failed";
    const sizes = `${n_layer} layers, ${n_head} heads, ${count(parameters)} parameters. `;
    return element("p", { "data-verdict": state }, element("b", {}, name), `: ${sizes}${verdict.text}`);
  });
  find("verdicts").replaceChildren(...rows);
}

/** Say something to a screen reader. */
function announce(text) {
  find("announcer").textContent = text;
}

/** Show an error, or none for an empty text. */
function showAlert(text) {
  const box = find("alert");
  box.replaceChildren();
  if (!text) return;
  const dismiss = element("button", { type: "button", onclick: () => box.replaceChildren() }, "Dismiss");
  box.append(element("p", {}, text), dismiss);
}

/** Start the page. */
async function start() {
  mountTheme(find("theme"));
  const source = openSource();
  const info = await source.page();
  document.documentElement.toggleAttribute("data-file", source.file);
  find("version").textContent = info.version;
  showVerdicts(info.models);
  const app = new App(source, info);
  const column = app.addColumn(0);
  if (source.file) await column.openFile();
  else if (info.text !== null) await app.parts[0].controls.show(info.text, info.bos, 0);
}

start().catch((error) => showAlert(error.message));

/**
 * The answers that the page shows: from the server that it came from, or from the data of an exported file.
 *
 * A source has `file` (true for an exported file), `page()`, the answer of `/api/page`, and
 * `ask(path, body, signal)`, the answer to a request. Arrays in answers are not decoded.
 */

const NOT_IN_FILE = "Not in this file: run max-gpt2 xray.";

/** Return the source of this document. */
export function openSource() {
  const data = document.getElementById("data");
  return data ? new FileSource(JSON.parse(data.textContent)) : new LiveSource();
}

/** Asks the server that the page came from. */
class LiveSource {
  file = false;

  /** Return the answer of `/api/page`. */
  async page() {
    return answerOf(await reach("/api/page", {}));
  }

  /**
   * Return the answer to a request.
   *
   * Throws an AbortError when `signal` is aborted, and an Error with the server's sentence when it refuses.
   */
  async ask(path, body, signal) {
    const headers = { "Content-Type": "application/json" };
    return answerOf(await reach(`/api/${path}`, { method: "POST", headers, body: JSON.stringify(body), signal }));
  }
}

/** Answers from the data of an exported file: one text, one model, no ablations. */
class FileSource {
  file = true;

  constructor(data) {
    this.data = data;
  }

  /** Return the answer of `/api/page` when the file was written. */
  async page() {
    return this.data.page;
  }

  /** Return the stored answer to a request; throws an Error if the file has none. */
  async ask(path, body) {
    const answer = this.data.answers[keyOf(path, body)];
    if (answer === undefined) throw new Error(NOT_IN_FILE);
    return answer;
  }
}

/** Return the key of a request among the answers of a file. */
function keyOf(path, body) {
  const parts = {
    next: [body.position],
    attention: [body.layer],
    head: [body.layer, body.head],
    attribution: [body.position, body.token],
  };
  const withMinus = path === "attribution" && (body.minus ?? null) !== null ? [body.minus] : [];
  return [path, ...(parts[path] ?? []), ...withMinus].join(":");
}

/** Fetch; throws an Error that says what to do if the server does not answer. */
async function reach(address, options) {
  try {
    return await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Start max-gpt2 xray again and reload the page.");
  }
}

/** Return the JSON of a response; throws an Error with its sentence if the server refuses. */
async function answerOf(response) {
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  throw new Error(answer?.error ?? `The server failed with status ${response.status}. Its terminal says why.`);
}

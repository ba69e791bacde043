/**
 * The filters of the sampler, as `max_gpt2.generation.logits` applies them: temperature, top_k, top_p.
 *
 * They see the whole vocabulary, in double precision. Ties are resolved as the engine resolves them.
 */

/** Why a token is cut: the values of `Filtered.cut`. */
export const KEPT = 0;
export const BY_TOP_K = 1;
export const BY_TOP_P = 2;
export const BY_GREEDY = 3;
export const BY_TOKENIZER = 4;

/**
 * @typedef {object} Filtered
 * @property {Float64Array} probabilities after the temperature, before any token is cut; at temperature 0, those of 1
 * @property {Uint8Array} cut for each token KEPT, BY_TOP_K, BY_TOP_P, BY_GREEDY or BY_TOKENIZER
 * @property {number} kept the number of tokens that can be sampled
 * @property {number} cutMass the sum of the probabilities of the others
 * @property {Float64Array} renormalized the probabilities of sampling; 0 for tokens that are cut
 */

/**
 * Apply the filters to logits [vocab].
 *
 * @param {Float32Array} logits
 * @param {{temperature: number, topK: number, topP: number}} settings temperature 0 is greedy, topK 0 and topP 1 are off
 * @param {number} size the number of tokens of the tokenizer; logits of further ids are never sampled
 * @returns {Filtered}
 */
export function filter(logits, { temperature, topK, topP }, size = logits.length) {
  const ascending = sorted(logits, size);
  const [highest, divisor] = [ascending.at(-1), temperature || 1];
  const scores = scaled(logits, highest, divisor).fill(-Infinity, size);
  const probabilities = softmax(scores);
  const cut = new Uint8Array(scores.length).fill(BY_TOKENIZER, size);
  if (temperature === 0) {
    cut.fill(BY_GREEDY, 0, size);
    cut[argmax(scores)] = KEPT;
  } else {
    const order = scaled(ascending, highest, divisor);
    if (topK > 0) cutTopK(scores, cut, topK, order);
    if (topP < 1) cutTopP(scores, cut, topP, order);
  }
  return { probabilities, cut, ...summary(probabilities, cut), renormalized: renormalize(scores, cut) };
}

/** Return the index of the largest number, the first of equal ones. */
export function argmax(values) {
  let best = 0;
  for (let index = 1; index < values.length; index++) if (values[index] > values[best]) best = index;
  return best;
}

/** Return probabilities [vocab] of scores [vocab]. */
export function softmax(scores) {
  const highest = scores[argmax(scores)];
  const found = new Float64Array(scores.length);
  let sum = 0;
  for (let index = 0; index < found.length; index++) {
    found[index] = Math.exp(scores[index] - highest);
    sum += found[index];
  }
  for (let index = 0; index < found.length; index++) found[index] /= sum;
  return found;
}

/** Return the Kullback-Leibler divergence of a distribution from another, in bits, given their logits [vocab]. */
export function divergence(logits, from) {
  const [p, q] = [logSoftmax(logits), logSoftmax(from)];
  let sum = 0;
  for (let index = 0; index < p.length; index++) if (p[index] > -Infinity) sum += Math.exp(p[index]) * (p[index] - q[index]);
  return Math.max(0, sum / Math.LN2);
}

function logSoftmax(logits) {
  const highest = logits[argmax(logits)];
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - highest);
  const shift = highest + Math.log(sum);
  return new Float64Array(logits).map((logit) => logit - shift);
}

/** Divide scores by the temperature; subtracting the maximum first does not change the softmax. */
function scaled(values, highest, temperature) {
  const scores = new Float64Array(values.length);
  for (let index = 0; index < scores.length; index++) scores[index] = (values[index] - highest) / temperature;
  return scores;
}

/** Logits in ascending order, by the array that they come from: the filters run at each move of a slider. */
const sortedLogits = new WeakMap();

function sorted(logits, size) {
  if (!sortedLogits.has(logits)) sortedLogits.set(logits, new Float64Array(logits).fill(-Infinity, size).sort());
  return sortedLogits.get(logits);
}

/** Cut what is below the k-th most likely token; what ties with it is kept. `ascending` are the scores in order. */
function cutTopK(scores, cut, k, ascending) {
  if (k >= scores.length) return;
  const threshold = ascending[scores.length - k];
  for (let index = 0; index < scores.length; index++) {
    if (scores[index] >= threshold) continue;
    scores[index] = -Infinity;
    cut[index] ||= BY_TOP_K;
  }
  for (let index = 0; ascending[index] < threshold; index++) ascending[index] = -Infinity;
}

/** Cut the least likely tokens while their cumulative probability is at most 1 - p; of ties, the lowest ids first. */
function cutTopP(scores, cut, p, ascending) {
  const probabilities = softmax(ascending);
  let dropped = 0;
  let cumulative = 0;
  while (dropped < scores.length - 1) {
    cumulative += probabilities[dropped];
    if (cumulative > 1 - p) break;
    dropped += 1;
  }
  const threshold = ascending[dropped];
  let ties = dropped - ascending.indexOf(threshold);
  for (let index = 0; index < scores.length; index++) {
    const drops = scores[index] < threshold || (scores[index] === threshold && ties-- > 0);
    if (!drops) continue;
    scores[index] = -Infinity;
    cut[index] ||= BY_TOP_P;
  }
}

function summary(probabilities, cut) {
  let kept = 0;
  let cutMass = 0;
  for (let index = 0; index < cut.length; index++) {
    if (cut[index] === KEPT) kept += 1;
    else cutMass += probabilities[index];
  }
  return { kept, cutMass };
}

function renormalize(scores, cut) {
  const kept = new Float64Array(scores);
  for (let index = 0; index < kept.length; index++) if (cut[index] !== KEPT) kept[index] = -Infinity;
  return softmax(kept);
}

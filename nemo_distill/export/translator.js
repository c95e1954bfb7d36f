// Translates in the browser. transformers.js reads the model and splits text, and its onnxruntime runs the graphs. The
// search is our own, because transformers.js has no beam search.

const MAX_DELTA = 50; // pieces that a translation may have beyond those of its source, as in nemo_distill's translate

// Loads what lies beside the page. Returns translate(line, beamSize, lengthPenalty) -> { text, pieces, ended }.
export async function load() {
  const { AutoModelForSeq2SeqLM, AutoTokenizer, Tensor, env } = await import("./library/transformers.min.js");
  Object.assign(env, { allowLocalModels: true, allowRemoteModels: false, localModelPath: "./" });
  // Only the browser's usual cache keeps files. It asks each time whether they are those of a new export; by itself
  // it would use old ones for days.
  Object.assign(env, { useBrowserCache: false, useWasmCache: false });
  env.fetch = (file, options) => fetch(file, { cache: "no-cache", ...options });
  const runtime = new URL("library/ort-wasm-simd-threaded", import.meta.url).href;
  env.backends.onnx.wasm.wasmPaths = { mjs: `${runtime}.js`, wasm: `${runtime}.wasm` };
  const tokenizer = await AutoTokenizer.from_pretrained("model");
  const model = await AutoModelForSeq2SeqLM.from_pretrained("model", { device: "wasm" });
  const most = model.config.max_position_embeddings;

  return async (line, beamSize, lengthPenalty) => {
    const inputs = tokenizer(line), length = inputs.input_ids.dims[1];
    if (length > most) throw new RangeError(`The line has ${length} pieces; the model reads at most ${most}.`);
    const step = await decoder(model, inputs, Tensor);
    const { ids, ended } = await search(step, model, beamSize, lengthPenalty, Math.min(most, length + MAX_DELTA));
    return { text: tokenizer.decode(ids, { skip_special_tokens: true }).trim(), pieces: ids.length, ended };
  };
}

// Encodes a sentence. Returns step(ids, parents) -> logits. A hypothesis reads its id and continues the hypothesis of
// the previous step whose row is its parent.
async function decoder(model, inputs, Tensor) {
  const { model: encoder, decoder_model_merged: graph } = model.sessions;
  const { decoder_layers: layers, decoder_attention_heads: heads, d_model: width } = model.config;
  const caches = Array.from({ length: 2 * layers }, (_, i) => `${i >> 1}.decoder.${i % 2 ? "value" : "key"}`);
  const { last_hidden_state } = await run(encoder, inputs);
  const source = { encoder_hidden_states: last_hidden_state, encoder_attention_mask: inputs.attention_mask };
  let past = caches.map(() => new Tensor("float32", [], [1, heads, 0, width / heads]));

  return async (ids, parents) => {
    const feeds = { ...source, input_ids: new Tensor("int64", BigInt64Array.from(ids, BigInt), [ids.length, 1]) };
    caches.forEach((name, i) => { feeds[`past_key_values.${name}`] = rows(past[i], parents, Tensor) });
    const outputs = await run(graph, feeds);
    past = caches.map((name) => outputs[`present.${name}`]);
    const { data, dims } = outputs.logits;
    return ids.map((_, row) => data.subarray(row * dims[2], (row + 1) * dims[2]));
  };
}

function run(graph, feeds) {
  const tensors = Object.entries(feeds).map(([name, tensor]) => [name, tensor.ort_tensor ?? tensor]);
  return graph.run(Object.fromEntries(tensors));
}

// Returns rows of a tensor, in the order that is asked for.
function rows({ data, dims }, wanted, Tensor) {
  const size = data.length / dims[0], found = new Float32Array(wanted.length * size);
  wanted.forEach((row, place) => found.set(data.subarray(row * size, (row + 1) * size), place * size));
  return new Tensor("float32", found, [wanted.length, ...dims.slice(1)]);
}

// Beam search for one sentence, the same as in decoding/search.py. Hypotheses are ranked by
// logProb / ((6 + length) / 6) ** lengthPenalty. They end at the end of sentence or at the limit.
async function search(step, { config, generation_config }, beamSize, lengthPenalty, limit) {
  const rank = ({ logProb }, length) => logProb / ((6 + length) / 6) ** lengthPenalty;
  const rankNow = (hypothesis) => rank(hypothesis, hypothesis.ids.length);
  let beam = [{ ids: [], logProb: 0, ended: false, row: 0 }];
  for (let length = 1; length <= limit; length++) {
    const open = beam.filter(({ ended }) => !ended);
    const latest = open.map(({ ids }) => ids.at(-1) ?? config.decoder_start_token_id);
    const logits = await step(latest, open.map(({ row }) => row));
    const longer = open.flatMap(({ ids, logProb }, row) =>
      best(logits[row], beamSize, generation_config.suppress_tokens).map(([id, gain]) => (
        { ids: [...ids, id], logProb: logProb + gain, ended: id === config.eos_token_id, row }
      )));
    beam = beam.filter(({ ended }) => ended).concat(longer);
    beam = beam.sort((a, b) => rankNow(b) - rankNow(a)).slice(0, beamSize);
    // Log-probabilities are never positive, so this is the best that an open hypothesis can come to.
    const hope = Math.max(...beam.filter(({ ended }) => !ended).map((hypothesis) => rank(hypothesis, limit)));
    if (beam[0].ended && hope <= rankNow(beam[0])) break;
  }
  return beam[0];
}

// Returns the most probable ids with their log-probabilities, without those that are never written.
function best(logits, count, never) {
  for (const id of never) logits[id] = -Infinity;
  const found = []; // [id, logit], the greatest first
  logits.forEach((logit, id) => {
    if (found.length === count && logit <= found[count - 1][1]) return;
    const place = found.findIndex(([, other]) => logit > other);
    found.splice(place < 0 ? found.length : place, 0, [id, logit]);
    if (found.length > count) found.pop();
  });
  const normalizer = found[0][1] + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - found[0][1]), 0));
  return found.filter(([, logit]) => logit > -Infinity).map(([id, logit]) => [id, logit - normalizer]);
}

/* Break a measurement: a network of mixtures and an MLP, side by side, on tumours whose measurements readers
   break. The trained networks and the tumours stand in the page, in a <script class="broken-data">, as
   book/_ext/broken_example.py wrote them. Where scripts are off, and on paper, a sentence stands here. */
(() => {
  "use strict";

  const KINDS = ["mean", "error", "worst"]; // thirty measurements: these of ten properties
  const TRIES = 300;
  // A lead of a class counts as proven from here on: far more than rounding can do.
  const LEAST_LEAD = 1e-6;

  const sigmoid = (lead) => 1 / (1 + Math.exp(-lead));

  function dot(weights, values) {
    let total = 0;
    for (let i = 0; i < weights.length; i += 1) total += weights[i] * values[i];
    return total;
  }

  function logsumexp(values) {
    let largest = -Infinity;
    for (const value of values) largest = Math.max(largest, value);
    if (largest === -Infinity) return largest;
    let total = 0;
    for (const value of values) total += Math.exp(value - largest);
    return largest + Math.log(total);
  }

  /** Random numbers from 0 to 1, the same ones for the same seed. */
  function dice(seed) {
    let state = seed;
    return () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state / 2 ** 32;
    };
  }

  function shuffled(count, random) {
    const order = Array.from({ length: count }, (_, k) => k);
    for (let k = count - 1; k > 0; k -= 1) {
      const other = Math.floor(random() * (k + 1));
      [order[k], order[other]] = [order[other], order[k]];
    }
    return order;
  }

  /** A layer of mixtures with a linear readout. A missing input, NaN, is left out, and so is its weight. */
  function mixtures(state, floor) {
    const neurons = state["0.mean"].map((mean, j) => {
      const logits = state["0.mix_logits"][j];
      const total = logsumexp(logits);
      const std = state["0.log_std"][j].map((logStd) => Math.exp(Math.max(logStd, Math.log(floor))));
      const peak = std.map((value) => -Math.log(value) - 0.5 * Math.log(2 * Math.PI)); // of densities alone
      const highestFirst = peak.map((_, k) => k).sort((a, b) => peak[b] - peak[a]);
      const weight = logits.map((logit) => Math.exp(logit - total));
      const top = peak.map((height, k) => height + logits[k] - total);
      const term = (z, k) => top[k] - 0.5 * ((z[k] - mean[k]) / std[k]) ** 2;
      return { peak, highestFirst, weight, top, term };
    });
    const readout = state["1.weight"][0].map((first, j) => first - state["1.weight"][1][j]);
    const bias = state["1.bias"][0] - state["1.bias"][1];

    /** Logarithm of the sum of the terms of some inputs, and the sum of their weights. */
    const rest = ({ weight, term }, z, isLeftOut) => {
      const terms = [];
      let left = 0;
      for (let k = 0; k < z.length; k += 1) {
        if (isLeftOut(k)) continue;
        terms.push(term(z, k));
        left += weight[k];
      }
      return [logsumexp(terms), left];
    };

    /** The least and the greatest output if the broken inputs say anything or nothing. The terms of the
        others stay. From below, a broken value is far away, and its term is 0. From above, it is at its mean
        or missing, whichever makes (sum of terms) / (sum of weights) larger: the highest peaks first. */
    const ends = (neuron, z, isBroken) => {
      const [low, whole] = rest(neuron, z, (k) => isBroken[k]);
      let [logSum, left] = [low, whole];
      for (const k of neuron.highestFirst) {
        if (!isBroken[k]) continue;
        if (left > 0 && neuron.peak[k] <= logSum - Math.log(left)) break;
        logSum = logsumexp([logSum, neuron.top[k]]);
        left += neuron.weight[k];
      }
      return [low, logSum - Math.log(left)];
    };

    return {
      lead: (z) => {
        const outputs = neurons.map((neuron) => {
          const [logSum, left] = rest(neuron, z, (k) => Number.isNaN(z[k]));
          return logSum - Math.log(left);
        });
        return bias + dot(readout, outputs);
      },
      leadBounds: (z, isBroken) => {
        const every = neurons.map((neuron) => ends(neuron, z, isBroken));
        const low = every.map((pair, j) => pair[readout[j] > 0 ? 0 : 1]);
        const high = every.map((pair, j) => pair[readout[j] > 0 ? 1 : 0]);
        return [bias + dot(readout, low), bias + dot(readout, high)];
      },
    };
  }

  /** A linear layer, a LayerNorm, ReLU, and a linear layer. A missing input is the median, 0. */
  function mlp(state) {
    const weight = state["3.weight"][0].map((first, j) => first - state["3.weight"][1][j]);
    const bias = state["3.bias"][0] - state["3.bias"][1];
    return {
      lead: (z) => {
        const known = z.map((value) => (Number.isNaN(value) ? 0 : value));
        const hidden = state["0.weight"].map((row, j) => dot(row, known) + state["0.bias"][j]);
        const mean = hidden.reduce((a, b) => a + b, 0) / hidden.length;
        const centred = hidden.map((value) => value - mean);
        const deviation = Math.sqrt(dot(centred, centred) / hidden.length + 1e-5);
        const normed = centred.map(
          (value, j) => (state["1.weight"][j] * value) / deviation + state["1.bias"][j]
        );
        return bias + dot(weight, normed.map((value) => Math.max(0, value)));
      },
    };
  }

  /** All that the page computes, from the data in it. Leads are scores of malignant minus those of benign. */
  function model(data) {
    const networks = { mixtures: mixtures(data.mixtures, data.min_std), mlp: mlp(data.mlp) };
    const scaled = (row) => row.map((value, k) => (value - data.center[k]) / data.scale[k]);
    const far = (deviations) => (value, k, row) =>
      value + ((row + k) % 2 ? -1 : 1) * deviations * data.std[k];
    const faults = {
      "ten standard deviations off": far(10),
      "three standard deviations off": far(3),
      "unit × 1000": (value) => 1000 * value,
      "stuck at zero": () => 0,
      "missing": () => NaN,
      "from other tumours": (value, k, row) => data.rows[(row + 1 + 7 * k) % data.rows.length][k],
    };
    const flags = (broken) => data.features.map((_, k) => broken.includes(k));
    return {
      faults: Object.keys(faults),
      /** A tumour's row in its own units, with these measurements broken. */
      spoilt: (row, fault, broken) => {
        const isBroken = flags(broken);
        return data.rows[row].map((value, k) => (isBroken[k] ? faults[fault](value, k, row) : value));
      },
      lead: (name, row) => networks[name].lead(scaled(row)),
      /** What is proven: no value of the broken measurements, and no gap, moves the lead beyond these. */
      leadBounds: (row, broken) => {
        const [low, high] = networks.mixtures.leadBounds(scaled(row), flags(broken));
        return [Number.isNaN(low) ? -Infinity : low, Number.isNaN(high) ? Infinity : high];
      },
      /** What was found by trying: values of both signs, from one to a thousand deviations. */
      tried: (name, row, broken) => {
        const random = dice(1);
        const z = scaled(row);
        const leads = Array.from({ length: TRIES }, () => {
          broken.forEach((k) => (z[k] = (random() < 0.5 ? -1 : 1) * 10 ** (3 * random())));
          return networks[name].lead(z);
        });
        return [Math.min(...leads), Math.max(...leads)];
      },
    };
  }

  /** A probability as a percentage that is never rounded to certainty. */
  function percent(share) {
    if (share > 0.999) return ">\u00a099.9\u00a0%";
    if (share < 0.001) return "<\u00a00.1\u00a0%";
    return `${(100 * share).toFixed(1)}\u00a0%`;
  }

  function number(value) {
    return Number.isNaN(value) ? "missing" : String(Number(value.toPrecision(4))).replace("-", "−");
  }

  function panel(name, title, classes) {
    const rows = classes.map(
      (word) => `
      <tr class="be-${word}">
        <th scope="row">${word}</th>
        <td class="be-share">
          <span class="be-bar" aria-hidden="true"><span class="be-fill"></span><span class="be-range"></span></span>
        </td>
        <td class="be-percent"></td>
      </tr>`
    );
    return `
      <div class="be-network" role="group" aria-labelledby="be-${name}" data-network="${name}">
        <output aria-live="polite">
          <span class="be-name" id="be-${name}">${title}</span>
          <span class="be-verdict"></span>
        </output>
        <table><tbody>${rows.join("")}</tbody></table>
        <p class="be-reach"></p>
      </div>`;
  }

  function markup(data, faults) {
    const slider = (id, label, min, max) => `
      <label for="be-${id}">${label}</label>
      <input type="range" id="be-${id}" min="${min}" max="${max}" step="1" autocomplete="off">
      <output for="be-${id}" aria-live="off"></output>`;
    const options = faults.map((fault) => `<option>${fault}</option>`);
    const properties = data.features.slice(0, 10).map((feature) => feature.replace("mean ", ""));
    const rows = properties.map((property, i) => {
      const cells = KINDS.map((kind, part) => {
        const k = 10 * part + i;
        return `<td><button type="button" data-k="${k}" aria-pressed="false"></button></td>`;
      });
      return `<tr><th scope="row">${property}</th>${cells.join("")}</tr>`;
    });
    const heads = KINDS.map((kind) => `<th scope="col">${kind}</th>`);
    return `
      <div class="be-controls">
        ${slider("tumour", "tumour", 1, data.rows.length)}
        ${slider("count", "broken", 0, data.features.length)}
        <label for="be-fault">fault</label>
        <select id="be-fault" autocomplete="off">${options.join("")}</select>
        <div class="be-buttons">
          <button type="button" data-others>Break others</button>
          <button type="button" data-reset>Reset</button>
        </div>
      </div>
      <p class="be-truth"></p>
      <div class="be-networks">
        ${panel("mixtures", "Network of mixtures", data.classes)}
        ${panel("mlp", "Ordinary MLP", data.classes)}
      </div>
      <p class="be-all"></p>
      <table class="be-measurements">
        <caption>The measurements. Press one to break or mend it.</caption>
        <thead><tr><td></td>${heads.join("")}</tr></thead>
        <tbody>${rows.join("")}</tbody>
      </table>`;
  }

  function start(host, data) {
    const computed = model(data);
    window.ugmmBroken = computed;
    const root = document.createElement("div");
    root.className = "be-root";
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "Two networks and broken measurements");
    root.innerHTML = markup(data, computed.faults);
    host.append(root);
    host.classList.add("be-live");

    const find = (selector) => root.querySelector(selector);
    const [tumour, count, fault] = ["tumour", "count", "fault"].map((name) => find(`#be-${name}`));
    const buttons = [...root.querySelectorAll("[data-k]")];
    const plural = (m) => (m === 1 ? "this measurement says" : `these ${m} measurements say`);
    let random, state; // the first state.count measurements in state.order are broken

    function reset() {
      random = dice(7);
      state = { row: 0, count: 3, fault: computed.faults[0], order: shuffled(data.features.length, random) };
      update();
    }

    function toggle(k) {
      const isBroken = state.order.indexOf(k) < state.count;
      state.order = state.order.filter((other) => other !== k);
      state.count += isBroken ? -1 : 1;
      state.order.splice(isBroken ? state.count : state.count - 1, 0, k);
      update();
    }

    function update() {
      const broken = state.order.slice(0, state.count);
      const row = computed.spoilt(state.row, state.fault, broken);
      tumour.value = state.row + 1;
      tumour.nextElementSibling.value = `${state.row + 1} of ${data.rows.length}`;
      count.value = state.count;
      count.nextElementSibling.value = `${state.count} of ${data.features.length}`;
      for (const slider of [tumour, count]) {
        slider.setAttribute("aria-valuetext", slider.nextElementSibling.value);
      }
      fault.value = state.fault;
      const truth = data.classes[data.y[state.row]];
      find(".be-truth").innerHTML = `In truth this tumour is <strong>${truth}</strong>.`;
      for (const button of buttons) {
        const k = Number(button.dataset.k);
        const isBroken = broken.includes(k);
        const now = number(row[k]);
        button.textContent = isBroken ? `✕ ${now}` : now;
        button.dataset.value = row[k];
        button.setAttribute("aria-pressed", isBroken);
        const before = isBroken ? `, broken: ${now} instead of ${number(data.rows[state.row][k])}` : `: ${now}`;
        button.setAttribute("aria-label", `${data.features[k]}${before}`);
      }
      show("mixtures", row, broken, truth);
      show("mlp", row, broken, truth);
      showAll(broken);
    }

    function show(name, row, broken, truth) {
      const place = find(`[data-network=${name}]`);
      const lead = computed.lead(name, row);
      const answer = Number.isNaN(lead) ? "nothing" : data.classes[lead > 0 ? 0 : 1];
      const verdict = place.querySelector(".be-verdict");
      verdict.classList.toggle("be-wrong", answer !== truth);
      verdict.textContent = `says ${answer}: ${answer === truth ? "right ✓" : "wrong ✗"}`;
      const proven = name === "mixtures";
      let ends = proven ? computed.leadBounds(row, broken) : computed.tried(name, row, broken);
      if (!proven) ends = [Math.min(lead, ends[0]), Math.max(lead, ends[1])];
      place.querySelectorAll("tr").forEach((line, c) => {
        const [share, low, high] = [lead, ...(c ? [ends[1], ends[0]] : ends)].map((value) =>
          sigmoid(c ? -value : value)
        );
        line.querySelector(".be-percent").textContent = Number.isNaN(share) ? "–" : percent(share);
        line.querySelector(".be-fill").style.width = `${100 * (share || 0)}%`;
        const range = line.querySelector(".be-range");
        range.hidden = broken.length === 0;
        range.style.left = `${100 * low}%`;
        range.style.width = `${100 * (high - low)}%`;
      });
      place.querySelector(".be-reach").innerHTML = proven ? proof(ends, broken) : search(ends, broken);
    }

    function proof([low, high], broken) {
      if (broken.length === 0) return "Nothing is broken.";
      const range = `from ${percent(sigmoid(low))} to ${percent(sigmoid(high))}`;
      if (low > LEAST_LEAD || high < -LEAST_LEAD) {
        const word = data.classes[low > 0 ? 0 : 1];
        return `<strong>Proven: stays ${word}</strong> whatever ${plural(broken.length)}, also if missing. \
Malignant: ${range}.`;
      }
      return `<strong>No proof</strong> for ${broken.length}: malignant may be anywhere ${range}.`;
    }

    function search([low, high], broken) {
      if (broken.length === 0) return "Nothing is broken.";
      const range = `from ${percent(sigmoid(low))} to ${percent(sigmoid(high))}`;
      const turned = low < 0 && high > 0;
      return `<strong>Nothing is proven.</strong> In ${TRIES} tries the answer ${turned ? "turned" : "did not turn"}: malignant ${range}.`;
    }

    function showAll(broken) {
      const right = { mixtures: 0, mlp: 0, proven: 0 };
      data.rows.forEach((_, i) => {
        const row = computed.spoilt(i, state.fault, broken);
        const sign = data.y[i] === 0 ? 1 : -1;
        for (const name of ["mixtures", "mlp"]) right[name] += sign * computed.lead(name, row) > 0;
        const [low, high] = computed.leadBounds(row, broken);
        right.proven += (sign > 0 ? low : -high) > LEAST_LEAD;
      });
      const proven = broken.length ? ` (proven for ${right.proven})` : "";
      find(".be-all").textContent = `All ${data.rows.length} test tumours, with the same measurements broken: \
the mixtures are right for ${right.mixtures}${proven}, the MLP for ${right.mlp}.`;
    }

    const change = (values) => {
      Object.assign(state, values);
      update();
    };
    tumour.addEventListener("input", () => change({ row: Number(tumour.value) - 1 }));
    count.addEventListener("input", () => change({ count: Number(count.value) }));
    fault.addEventListener("change", () => change({ fault: fault.value }));
    find("[data-others]").addEventListener("click", () =>
      change({ order: shuffled(data.features.length, random) })
    );
    find("[data-reset]").addEventListener("click", reset);
    buttons.forEach((button) => button.addEventListener("click", () => toggle(Number(button.dataset.k))));
    reset();
  }

  const host = document.querySelector(".broken-example");
  const script = document.querySelector("script.broken-data");
  if (host && script) start(host, JSON.parse(script.textContent));
})();

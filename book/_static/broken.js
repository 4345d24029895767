/* Two networks on rows whose inputs the reader breaks. Their data stand in the page, in a
   <script class="broken-inputs"> that ugmm_tutorial.teaching.broken_inputs wrote. The example takes the place of
   the figure "fig-broken". Where scripts are off, the figure stays. */
(() => {
  "use strict";

  /** float32 numbers of a base64 text. */
  function floats(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Float64Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  }

  /* Each kind of module as a function of an array. NaN stands for a missing input. */
  const kinds = {
    mixture({ mean, std, weight }) {
      return (x) => {
        const there = x.map((value) => !Number.isNaN(value));
        const outputs = mean.length / x.length;
        return Array.from({ length: outputs }, (_, j) => {
          const terms = [];
          let left = 0; // the weight of the components whose input is there
          for (let k = 0; k < x.length; k += 1) {
            const i = j * x.length + k;
            if (!there[k]) continue;
            left += weight[i];
            const z = (x[k] - mean[i]) / std[i];
            terms.push(Math.log(weight[i]) - Math.log(std[i]) - 0.5 * Math.log(2 * Math.PI) - 0.5 * z * z);
          }
          const top = Math.max(...terms);
          const sum = terms.reduce((total, term) => total + Math.exp(term - top), 0);
          return top + Math.log(sum) - Math.log(left);
        });
      };
    },
    norm({ weight, bias, eps }) {
      return (x) => {
        const mean = x.reduce((total, value) => total + value, 0) / x.length;
        const variance = x.reduce((total, value) => total + (value - mean) ** 2, 0) / x.length;
        return x.map((value, i) => ((value - mean) / Math.sqrt(variance + eps)) * weight[i] + bias[i]);
      };
    },
    linear({ weight, bias }) {
      // An ordinary layer needs a number: the median, which is 0 after scaling.
      return (x) => {
        const given = x.map((value) => (Number.isNaN(value) ? 0 : value));
        return Array.from(bias, (shift, j) =>
          given.reduce((total, value, k) => total + weight[j * given.length + k] * value, shift));
      };
    },
    relu() {
      return (x) => x.map((value) => Math.max(value, 0));
    },
  };

  function network(modules) {
    const steps = modules.map(({ kind, eps, ...parts }) => {
      const numbers = Object.entries(parts).map(([name, text]) => [name, floats(text)]);
      return kinds[kind]({ ...Object.fromEntries(numbers), eps });
    });
    return (x) => {
      const scores = steps.reduce((values, step) => step(values), x);
      const top = Math.max(...scores);
      const parts = scores.map((score) => Math.exp(score - top));
      const sum = parts.reduce((total, part) => total + part, 0);
      return parts.map((part) => part / sum);
    };
  }

  /* What a fault makes of a value: (value, one standard deviation, a sign) to a number. */
  const faults = {
    gross: { label: "a gross error, ten standard deviations", act: (v, sd, sign) => v + 10 * sd * sign },
    unit: { label: "a wrong unit, × 1000", act: (v) => 1000 * v },
    stuck: { label: "stuck at 0", act: () => 0 },
    missing: { label: "missing", act: () => NaN },
  };

  const number = (value) =>
    Number.isNaN(value) ? "missing" : Number(value.toPrecision(3)).toString().replace("-", "−");

  function escaped(text) {
    const node = document.createElement("span");
    node.textContent = text;
    return node.innerHTML;
  }

  function markup(data) {
    const buttons = data.inputs.map((name, k) => `
      <button type="button" class="bi-input" data-input="${k}" aria-pressed="false">
        <span>${escaped(name)}</span> <output></output>
      </button>`);
    const bars = Object.keys(data.networks).map((name) => `
      <div class="bi-answer" data-network="${escaped(name)}">
        <span class="bi-name">${escaped(name)}</span>
        <span class="bi-bar"><span></span></span>
        <span class="bi-says"></span>
      </div>`);
    return `
      <div class="bi-slider">
        <label for="broken-row">row</label>
        <input type="range" id="broken-row" min="0" max="${data.rows.length - 1}" value="0" autocomplete="off">
        <output for="broken-row" aria-live="off"></output>
      </div>
      <div class="bi-slider">
        <label for="broken-count">broken</label>
        <input type="range" id="broken-count" min="0" max="${data.inputs.length}" value="0" autocomplete="off">
        <output for="broken-count" aria-live="off"></output>
      </div>
      <div class="bi-fault">
        <label for="broken-fault">by</label>
        <select id="broken-fault" autocomplete="off">${Object.entries(faults).map(([key, { label }]) =>
          `<option value="${key}">${label}</option>`).join("")}</select>
      </div>
      ${bars.join("")}
      <p class="bi-result"><output aria-live="polite" data-result></output></p>
      <p class="bi-hint">Click a measurement to break or mend it.</p>
      <div class="bi-inputs">${buttons.join("")}</div>`;
  }

  function start(host, data) {
    const root = document.createElement("div");
    root.className = "bi-root";
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "Break inputs and watch the networks");
    root.innerHTML = markup(data);
    host.append(root);
    const [row, count] = ["row", "count"].map((name) => root.querySelector(`#broken-${name}`));
    const fault = root.querySelector("#broken-fault");
    const buttons = [...root.querySelectorAll(".bi-input")];
    const networks = Object.entries(data.networks).map(([name, modules]) => [name, network(modules)]);
    let broken = new Set();

    function values() {
      const place = Number(row.value);
      const { act } = faults[fault.value];
      return data.rows[place].map((value, k) =>
        broken.has(k) ? act(value, data.deviation[k], data.signs[place][k]) : value);
    }

    function update() {
      const place = Number(row.value);
      const shown = values();
      const scaled = shown.map((value, k) => (value - data.center[k]) / data.scale[k]);
      row.nextElementSibling.value = String(place);
      count.value = String(broken.size);
      count.nextElementSibling.value = `${broken.size} of ${data.inputs.length}`;
      buttons.forEach((button, k) => {
        button.setAttribute("aria-pressed", String(broken.has(k)));
        button.querySelector("output").value = number(shown[k]);
      });
      const truth = data.classes[data.labels[place]];
      const nothing = scaled.every(Number.isNaN);
      const said = nothing ? [] : networks.map(([name, answer], i) => {
        const probability = answer(scaled);
        const best = probability.indexOf(Math.max(...probability));
        const percent = `${(100 * probability[best]).toFixed(1)} %`;
        const line = root.querySelectorAll(".bi-answer")[i];
        const right = best === data.labels[place];
        line.classList.toggle("bi-wrong", !right);
        line.querySelector(".bi-bar > span").style.width = percent.replace(" ", "");
        line.querySelector(".bi-says").textContent = `${right ? "✓" : "✗"} ${data.classes[best]}, ${percent}`;
        return `${name} says ${data.classes[best]}, ${percent}`;
      });
      root.querySelectorAll(".bi-bar, .bi-says").forEach((node) => (node.hidden = nothing));
      const proof = data.proven[place];
      const safe = proof
        ? ` Proven: no change of any ${proof === 1 ? "one measurement" : `${proof} measurements`} alters the first \
network's answer.`
        : "";
      root.querySelector("[data-result]").value = nothing
        ? `In truth ${truth}. Nothing is left to compute from.`
        : `In truth ${truth}, ${broken.size} of ${data.inputs.length} broken: ${said.join("; ")}.${safe}`;
    }

    row.addEventListener("input", () => {
      broken = new Set(data.order[Number(row.value)].slice(0, broken.size));
      update();
    });
    count.addEventListener("input", () => {
      broken = new Set(data.order[Number(row.value)].slice(0, Number(count.value)));
      update();
    });
    fault.addEventListener("input", update);
    buttons.forEach((button, k) =>
      button.addEventListener("click", () => {
        if (!broken.delete(k)) broken.add(k);
        update();
      }));
    update();
  }

  const script = document.querySelector("script.broken-inputs");
  const figure = document.getElementById("fig-broken");
  if (!script || !figure) return;
  const host = document.createElement("div");
  host.className = "broken-inputs-live";
  figure.before(host);
  figure.hidden = true;
  // Links to the figure shall arrive at what stands in its place.
  figure.removeAttribute("id");
  host.id = "fig-broken";
  start(host, JSON.parse(script.textContent));
})();

/* The neuron explorer: one neuron with three inputs, to be moved by hand. It takes the place of the
   static picture in every <div class="neuron-explorer">, and of the figure "fig-explorer" in
   chapter 1; where scripts are off, the pictures stay. */
(() => {
  "use strict";

  const START = {
    x: [-1.5, 1.0, 2.0],
    mean: [-2.0, 0.5, 3.0],
    std: [0.6, 1.0, 0.8],
    weight: [0.3, 0.45, 0.25],
  };
  const SLIDERS = [
    { name: "x", word: "input", letter: "x", min: -6, max: 6, step: 0.1 },
    { name: "mean", word: "mean", letter: "μ", min: -4, max: 4, step: 0.1 },
    { name: "std", word: "deviation", letter: "σ", min: 0.2, max: 3, step: 0.05 },
    { name: "weight", word: "weight", letter: "w", min: 0, max: 1, step: 0.01 },
  ];
  const COMPONENTS = [0, 1, 2];

  // The picture's measures in CSS pixels; its width follows the page.
  const SPAN = [-7, 7]; // the values y on the axis, a little more than inputs can reach
  const STACK = 34; // the width of the stacked heights, right of the axis
  const MARGIN = { left: 44, right: 10 + STACK + 22, top: 26 };
  const BASE = 226; // where the axis lies
  const LANE = 28; // below it every input has a lane of its own, so that handles never overlap
  const LANES = BASE + 38;
  const HEIGHT = LANES + 3 * LANE;

  /** Terms and output in nats, responsibilities; weights are taken as they are, of any sum. */
  function neuron({ x, mean, std, weight }) {
    const terms = x.map((value, k) => {
      const z = (value - mean[k]) / std[k];
      return Math.log(weight[k]) - Math.log(std[k]) - 0.5 * (Math.log(2 * Math.PI) + z * z);
    });
    const largest = Math.max(...terms);
    if (largest === -Infinity) {
      // No component is left, and shares of nothing are not defined.
      return { terms, out: -Infinity, responsibilities: terms.map(() => NaN) };
    }
    // With the largest term taken out, the largest exponential is one: no overflow, no log of zero.
    const shares = terms.map((term) => Math.exp(term - largest));
    const sum = shares.reduce((a, b) => a + b, 0);
    return {
      terms,
      out: largest + Math.log(sum),
      responsibilities: shares.map((share) => share / sum),
    };
  }

  function normalised(raw) {
    const sum = raw.reduce((a, b) => a + b, 0);
    return sum > 0 ? raw.map((weight) => weight / sum) : raw.map(() => 0);
  }

  function density(y, mean, std, weight) {
    const z = (y - mean) / std;
    return (weight * Math.exp(-0.5 * z * z)) / (std * Math.sqrt(2 * Math.PI));
  }

  function digits(value, places) {
    if (Number.isNaN(value)) return "–";
    if (!Number.isFinite(value)) return value < 0 ? "−∞" : "∞";
    const text = Math.abs(value).toFixed(places);
    return value < 0 && Number(text) !== 0 ? `−${text}` : text;
  }

  /** Distance between ticks: 1, 2 or 5 times a power of ten, for at most five of them. */
  function tickStep(top) {
    const power = 10 ** Math.floor(Math.log10(top / 5));
    return [1, 2, 5, 10].map((m) => m * power).find((step) => top / step <= 5);
  }

  function svgNode(parent, name, attributes = {}, text = "") {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    parent.append(node);
    node.textContent = text;
    return change(node, attributes);
  }

  function change(node, attributes) {
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  }

  function sliderMarkup(prefix, k, { name, word, letter, min, max, step }) {
    const id = `${prefix}-${name}-${k + 1}`;
    return `
      <div class="ne-slider">
        <label for="${id}">${word} <i>${letter}</i><sub>${k + 1}</sub></label>
        <input type="range" id="${id}" data-name="${name}" data-k="${k}"
               min="${min}" max="${max}" step="${step}" autocomplete="off">
        <output for="${id}" aria-live="off"></output>
      </div>`;
  }

  function markup(prefix) {
    const fieldsets = COMPONENTS.map(
      (k) => `
      <fieldset class="ne-${k + 1}">
        <legend>
          <svg width="44" height="10" aria-hidden="true"><path class="ne-curve" d="M0 5H44"/></svg>
          component ${k + 1}
        </legend>
        ${SLIDERS.map((slider) => sliderMarkup(prefix, k, slider)).join("")}
      </fieldset>`
    );
    const rows = COMPONENTS.map(
      (k) => `
      <tr class="ne-${k + 1}">
        <th scope="row">${k + 1}</th>
        <td data-term="${k}"></td>
        <td class="ne-share"><div>
          <span class="ne-bar" aria-hidden="true"><span></span></span>
          <span data-share="${k}"></span>
        </div></td>
      </tr>`
    );
    return `
      <svg class="ne-picture" role="img"></svg>
      <p class="ne-result"><output aria-live="polite" data-out></output></p>
      <p class="ne-note" data-note></p>
      <table class="ne-table">
        <caption>Terms (log weight + log density at the input) and who answers</caption>
        <thead><tr>
          <th scope="col">component</th>
          <th scope="col">term (nats)</th>
          <th scope="col">responsibility</th>
        </tr></thead>
        <tbody>${rows.join("")}</tbody>
      </table>
      <div class="ne-options">
        <label><input type="checkbox" data-tie autocomplete="off"> same value in all inputs</label>
        <button type="button" data-reset>Reset</button>
      </div>
      <div class="ne-controls">${fieldsets.join("")}</div>`;
  }

  function start(host, number) {
    const pictures = [...host.children];
    pictures.forEach((picture) => (picture.hidden = true));
    const root = document.createElement("div");
    root.className = "ne-root";
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "Neuron explorer");
    root.innerHTML = markup(`explorer-${number}`);
    host.append(root);

    const find = (selector) => root.querySelector(selector);
    const sliders = [...root.querySelectorAll("input[type=range]")];
    const tie = find("[data-tie]");
    const svg = find(".ne-picture");
    const state = structuredClone(START);

    // Parts of the picture that stay are made once: a handle that is being dragged must not vanish.
    const grid = svgNode(svg, "g");
    const parts = COMPONENTS.map((k) => {
      const group = svgNode(svg, "g", { class: `ne-${k + 1}` });
      return {
        area: svgNode(group, "path", { class: "ne-area" }),
        curve: svgNode(group, "path", { class: "ne-curve" }),
        stem: svgNode(group, "path", { class: "ne-stem" }),
        dot: svgNode(group, "circle", { class: "ne-dot", r: 5 }),
        height: svgNode(group, "rect", { class: "ne-height", width: STACK }),
      };
    });
    const total = svgNode(svg, "text", { "text-anchor": "middle" });
    const mixture = svgNode(svg, "path", { class: "ne-mixture" });
    const onMixture = svgNode(svg, "circle", { class: "ne-on-mixture", r: 5 });
    const labels = COMPONENTS.map((k) =>
      svgNode(svg, "text", { class: "ne-label", "text-anchor": "middle" }, String(k + 1))
    );
    const handles = COMPONENTS.map((k) => {
      const handle = svgNode(svg, "g", { class: `ne-handle ne-${k + 1}`, "data-handle": k });
      svgNode(handle, "circle", { r: 12 });
      svgNode(handle, "text", { y: 4, "text-anchor": "middle" }, `x${"₁₂₃"[k]}`);
      return handle;
    });

    function setValue(name, k, value) {
      if (name === "x" && tie.checked) state.x.fill(value);
      else state[name][k] = value;
      update();
    }

    function update() {
      const weight = normalised(state.weight);
      const result = neuron({ ...state, weight });
      const left = weight.some((w) => w > 0);
      for (const slider of sliders) {
        const { name, k } = slider.dataset;
        const value = state[name][k];
        slider.value = value;
        const shown = name === "weight" ? (left ? weight[k] : NaN) : value;
        slider.nextElementSibling.value = digits(shown, 2);
        // The slider's own number is the raw weight; what counts is its share of the sum.
        if (name === "weight") slider.setAttribute("aria-valuetext", left ? digits(shown, 2) : "0");
      }
      COMPONENTS.forEach((k) => {
        const share = result.responsibilities[k];
        find(`[data-term="${k}"]`).textContent = digits(result.terms[k], 3);
        find(`[data-share="${k}"]`).textContent = digits(share, 3);
        find(`tbody .ne-${k + 1} .ne-bar span`).style.width = `${100 * (share || 0)}%`;
      });
      find("[data-out]").value = `out = log of the sum = ${digits(result.out, 3)} nats`;
      find("[data-note]").textContent = note(left);
      draw(weight);
      svg.setAttribute("aria-label", summary(result));
    }

    function note(left) {
      if (!left) {
        return "All weights are zero: no component is left, and the output is minus infinity.";
      }
      if (tie.checked) {
        return `On the diagonal the output is the logarithm of the mixture at \
y = ${digits(state.x[0], 1)}: the hollow dot on the dashed curve.`;
      }
      return "The dashed curve is the sum of all components at one y; \
each component is read at its own input, and these heights stand on each other at the right.";
    }

    function summary({ out, responsibilities }) {
      const read = COMPONENTS.map(
        (k) => `component ${k + 1}, mean ${digits(state.mean[k], 1)}, is read at \
${digits(state.x[k], 1)} and has responsibility ${digits(responsibilities[k], 2)}`
      );
      return `Three weighted bell curves and their sum. ${read.join("; ")}. \
Output ${digits(out, 2)} nats.`;
    }

    function draw(weight) {
      const width = Math.max(280, host.clientWidth);
      change(svg, { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT });
      const right = width - MARGIN.right;
      const scale = (right - MARGIN.left) / (SPAN[1] - SPAN[0]);
      const ys = Array.from({ length: 281 }, (_, i) => SPAN[0] + i / 20);
      const read = (y, k) => density(y, state.mean[k], state.std[k], weight[k]);
      const curves = COMPONENTS.map((k) => ys.map((y) => read(y, k)));
      const sum = ys.map((_, i) => curves.reduce((total, curve) => total + curve[i], 0));
      const heights = COMPONENTS.map((k) => read(state.x[k], k));
      const stacked = heights.reduce((above, height) => above + height, 0);
      const top = Math.max(0.1, 1.05 * Math.max(...sum), 1.08 * stacked);
      const across = (y) => MARGIN.left + (y - SPAN[0]) * scale;
      const up = (p) => BASE - (p / top) * (BASE - MARGIN.top);
      const path = (values) => {
        const points = values.map((p, i) => `${across(ys[i]).toFixed(1)} ${up(p).toFixed(1)}`);
        return `M${points.join("L")}`;
      };

      grid.replaceChildren();
      const step = tickStep(top);
      for (let i = 0; i * step <= top; i += 1) {
        const height = up(i * step);
        const tick = (i * step).toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
        svgNode(grid, "path", { class: "ne-grid", d: `M${MARGIN.left} ${height}H${right}` });
        svgNode(grid, "text", { x: 38, y: height + 4, "text-anchor": "end" }, tick);
      }
      for (let y = -6; y <= 6; y += 2) {
        svgNode(grid, "path", { class: "ne-axis", d: `M${across(y)} ${BASE}v5` });
        const place = { x: across(y), y: BASE + 18, "text-anchor": "middle" };
        svgNode(grid, "text", place, digits(y, 0));
      }
      svgNode(grid, "path", { class: "ne-axis", d: `M${MARGIN.left} ${BASE}H${right}` });
      svgNode(grid, "text", { x: 2, y: 13 }, "density");
      svgNode(grid, "text", { x: 2, y: BASE + 18 }, "y");
      svgNode(grid, "text", { x: right, y: 13, "text-anchor": "end" }, "mixture");
      svgNode(grid, "path", { class: "ne-mixture", d: `M${right - 100} 9h42` });

      let reached = 0;
      COMPONENTS.forEach((k) => {
        const x = across(state.x[k]);
        const height = up(heights[k]);
        const lane = LANES + (k + 0.5) * LANE;
        svgNode(grid, "path", { class: "ne-grid", d: `M${MARGIN.left} ${lane}H${right}` });
        const { area, curve, stem, dot } = parts[k];
        const line = path(curves[k]);
        change(curve, { d: line });
        change(area, { d: `${line}L${right} ${BASE}L${MARGIN.left} ${BASE}Z` });
        const halfway = (BASE + up(read(state.mean[k], k))) / 2;
        change(labels[k], { x: across(state.mean[k]), y: Math.min(BASE - 6, halfway) });
        change(stem, { d: `M${x} ${height}V${lane}` });
        change(dot, { cx: x, cy: height });
        change(handles[k], { transform: `translate(${x} ${lane})` });
        reached += heights[k];
        change(parts[k].height, {
          x: right + 22,
          y: up(reached),
          height: BASE - up(heights[k]),
        });
      });
      change(total, { x: right + 22 + STACK / 2, y: up(stacked) - 5 });
      total.textContent = digits(stacked, 2);
      svgNode(grid, "text", { x: right + 22 + STACK / 2, y: BASE + 18, "text-anchor": "middle" }, "sum");
      change(mixture, { d: path(sum) });
      const y = state.x[0];
      const there = COMPONENTS.reduce((total, k) => total + read(y, k), 0);
      onMixture.style.display = tie.checked ? "" : "none";
      change(onMixture, { cx: across(y), cy: up(there) });
    }

    function drag(event) {
      const k = Number(event.currentTarget.dataset.handle);
      const box = svg.getBoundingClientRect();
      const axis = box.width - MARGIN.left - MARGIN.right;
      const share = (event.clientX - box.left - MARGIN.left) / axis;
      const y = SPAN[0] + share * (SPAN[1] - SPAN[0]);
      const { min, max } = SLIDERS[0];
      setValue("x", k, Math.round(10 * Math.min(max, Math.max(min, y))) / 10);
    }

    for (const slider of sliders) {
      const { name, k } = slider.dataset;
      slider.addEventListener("input", () => setValue(name, Number(k), Number(slider.value)));
    }
    for (const handle of handles) {
      handle.addEventListener("pointerdown", (event) => {
        event.preventDefault(); // no text is selected on the way
        handle.setPointerCapture(event.pointerId);
      });
      handle.addEventListener("pointermove", (event) => {
        if (handle.hasPointerCapture(event.pointerId)) drag(event);
      });
    }
    tie.addEventListener("change", () => setValue("x", 0, state.x[0]));
    find("[data-reset]").addEventListener("click", () => {
      tie.checked = false;
      Object.assign(state, structuredClone(START));
      update();
    });
    // Also tells the first width, and every later one.
    new ResizeObserver(() => draw(normalised(state.weight))).observe(host);
    update();
  }

  window.ugmmExplorer = { neuron };

  const figure = document.getElementById("fig-explorer");
  if (figure && !figure.closest(".neuron-explorer")) {
    const host = document.createElement("div");
    host.className = "neuron-explorer";
    figure.before(host);
    figure.hidden = true;
    // Links to the figure shall arrive at what stands in its place.
    figure.removeAttribute("id");
    host.id = "fig-explorer";
  }
  document.querySelectorAll(".neuron-explorer").forEach(start);
})();

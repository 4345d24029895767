/* The viewer of submodes: which pixels own a neuron where the digit is 0, 1, ... 9. Its data stand in the
   page, in a <script class="submodes"> that ugmm_tutorial.teaching.viewer wrote; it takes the place of the figure
   "fig-submodes". Where scripts are off, the figure stays. */
(() => {
  "use strict";

  /** Bytes of a base64 text. */
  function bytes(text) {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  }

  /** Data as they stand in the page, with decoded bytes and a function for every kind of picture. */
  function read(script) {
    const data = JSON.parse(script.textContent);
    const [height, width] = data.size;
    const pixels = height * width;
    const shares = bytes(data.shares);
    const images = bytes(data.images);
    const share = (neuron, digit, pixel) =>
      (data.scale[neuron] * shares[(neuron * data.classes + digit) * pixels + pixel]) / 255;
    const picture = (value) => Float64Array.from({ length: pixels }, (_, pixel) => value(pixel));
    const submode = (neuron, digit) => picture((pixel) => share(neuron, digit, pixel));
    const mean = (neuron) =>
      picture((pixel) => {
        let total = 0;
        for (let digit = 0; digit < data.classes; digit += 1) total += share(neuron, digit, pixel);
        return total / data.classes;
      });
    const image = (digit) => picture((pixel) => images[digit * pixels + pixel] / 255);
    const colors = {
      shares: bytes(data.colors.shares),
      differences: bytes(data.colors.differences),
      grey: Uint8Array.from({ length: 768 }, (_, i) => 255 - Math.floor(i / 3)),
    };
    return { ...data, height, width, submode, mean, image, colors };
  }

  /** Paint values between low and high into a canvas, one pixel each. */
  function paint(canvas, values, low, high, colors) {
    const context = canvas.getContext("2d");
    const target = context.createImageData(canvas.width, canvas.height);
    values.forEach((value, i) => {
      const place = Math.round((255 * (value - low)) / (high - low || 1));
      const entry = 3 * Math.min(255, Math.max(0, place));
      target.data.set([colors[entry], colors[entry + 1], colors[entry + 2], 255], 4 * i);
    });
    context.putImageData(target, 0, 0);
  }

  function markup(data) {
    const slider = (name, most) => `
      <div class="sv-slider">
        <label for="viewer-${name}">${name}</label>
        <input type="range" id="viewer-${name}" min="0" max="${most}" step="1" value="0"
               autocomplete="off">
        <output for="viewer-${name}" aria-live="off">0</output>
      </div>`;
    const picture = (name) => `
      <figure>
        <canvas width="${data.width}" height="${data.height}" role="img" data-picture="${name}"></canvas>
        <figcaption data-caption="${name}"></figcaption>
      </figure>`;
    return `
      ${slider("neuron", data.neurons - 1)}
      ${slider("digit", data.classes - 1)}
      <p class="sv-result"><output aria-live="polite" data-result></output></p>
      <div class="sv-pictures">${["image", "shares", "difference"].map(picture).join("")}</div>`;
  }

  function start(host, data) {
    const root = document.createElement("div");
    root.className = "sv-root";
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "Viewer of submodes");
    root.innerHTML = markup(data);
    host.append(root);
    const find = (selector) => root.querySelector(selector);
    const sliders = ["neuron", "digit"].map((name) => find(`#viewer-${name}`));
    const percent = (share) => `${(100 * share).toFixed(2)} %`;
    const signed = (number, text) => (number < 0 ? text.replace("-", "−") : text);

    function show(name, values, low, high, colors, caption) {
      const canvas = find(`[data-picture=${name}]`);
      paint(canvas, values, low, high, colors);
      canvas.setAttribute("aria-label", caption);
      find(`[data-caption=${name}]`).textContent = caption;
    }

    function update() {
      const [neuron, digit] = sliders.map((slider) => Number(slider.value));
      sliders.forEach((slider) => (slider.nextElementSibling.value = slider.value));
      const shares = data.submode(neuron, digit);
      const mean = data.mean(neuron);
      const added = shares.map((share, pixel) => share - mean[pixel]);
      // One scale for all digits of a neuron, so that they can be compared.
      let most = 0;
      for (let other = 0; other < data.classes; other += 1) {
        data.submode(neuron, other).forEach((share, pixel) => {
          most = Math.max(most, Math.abs(share - mean[pixel]));
        });
      }
      const loudest = shares.indexOf(Math.max(...shares));
      const row = Math.floor(loudest / data.width);
      const output = data.outputs[neuron][digit];
      find("[data-result]").value = `Neuron ${neuron}, digit ${digit}: mean output \
${signed(output, output.toFixed(3))} nats. Its shares are spread over the equivalent of \
${data.effective[neuron][digit].toFixed(0)} of ${data.height * data.width} pixels; the largest, \
${percent(shares[loudest])}, belongs to the pixel in row ${row}, column ${loudest % data.width}.`;
      show("image", data.image(digit), 0, 1, data.colors.grey, `the mean image of digit ${digit}`);
      show("shares", shares, 0, data.scale[neuron], data.colors.shares,
        `shares of the pixels, from 0 to ${percent(data.scale[neuron])}`);
      show("difference", added, -most, most, data.colors.differences,
        `what digit ${digit} adds (red) or takes (blue), up to ${(100 * most).toFixed(2)} points`);
    }

    sliders.forEach((slider) => slider.addEventListener("input", update));
    update();
  }

  const script = document.querySelector("script.submodes");
  const figure = document.getElementById("fig-submodes");
  if (!script || !figure) return;
  const host = document.createElement("div");
  host.className = "submode-viewer";
  figure.before(host);
  figure.hidden = true;
  // Links to the figure shall arrive at what stands in its place.
  figure.removeAttribute("id");
  host.id = "fig-submodes";
  start(host, read(script));
})();

// The scroller of a case's page: three planes of the voxels in #voxels (overlay -p), whose facts are data of #viewer.
(() => {
    const viewer = document.getElementById("viewer"), numbers = name => viewer.dataset[name].split(" ").map(Number);
    const size = numbers("size"), mm = numbers("spacing"), origin = numbers("origin"), columns = +viewer.dataset.columns;
    const at = numbers("at").map((v, i) => v - origin[i]);
    const colours = ["#000000", "#d55e00", "#56b4e9", "#f0e442", "#ffffff", "#aacc55", "#5522bb", "#880000"].map(c => [1, 3, 5].map(k => parseInt(c.slice(k, k + 2), 16)));
    const heats = [[27, 12, 65], [120, 28, 109], [207, 68, 70], [251, 155, 6], [252, 255, 164]];
    // Across which axis, along which the columns and rows go; z from the top down.
    const planes = [["axial", 2, 0, 1], ["coronal", 1, 0, 2], ["sagittal", 0, 1, 2]];
    const scan = document.getElementById("scan"), shown = document.getElementById("shown");
    let voxels, wide;

    viewer.dataset.scans.split(" ").forEach((name, i) => scan.add(new Option(name, i)));

    const row = (r, j) => r == 2 ? size[2] - 1 - j : j;
    const pixel = (x, y, z) => 4 * ((Math.floor(z / columns) * size[1] + y) * wide + z % columns * size[0] + x);
    const canvas = (w, h) => Object.assign(document.createElement("canvas"), { width: w, height: h });
    function heat(v) {
        const a = v / 255 * (heats.length - 1), k = Math.min(Math.floor(a), heats.length - 2);
        return heats[k].map((from, c) => from + (heats[k + 1][c] - from) * (a - k));
    }

    function draw(plane) {
        const [, across, c, r] = plane.axes, w = size[c], h = size[r];
        const grey = canvas(w, h), picture = grey.getContext("2d").createImageData(w, h);
        const label = new Uint8Array(w * h), warm = new Uint8Array(w * h), p = [0, 0, 0];
        p[across] = at[across];
        for (let j = 0, k = 0; j < h; j++)
            for (let i = 0; i < w; i++, k++) {
                p[c] = i;
                p[r] = row(r, j);
                const q = pixel(...p), v = voxels[q + +scan.value];
                picture.data.set([v, v, v, 255], 4 * k);
                label[k] = voxels[q + 2] & 7;
                warm[k] = voxels[q + 2] & 248;
            }
        grey.getContext("2d").putImageData(picture, 0, 0);
        const W = plane.canvas.width, H = plane.canvas.height, context = plane.canvas.getContext("2d", { willReadFrequently: true });
        context.imageSmoothingQuality = "high";
        context.drawImage(grey, 0, 0, W, H);
        const over = context.getImageData(0, 0, W, H), d = over.data, mode = shown.value;
        const column = Array.from({ length: W }, (_, x) => Math.floor(x * w / W)), line = Array.from({ length: H }, (_, y) => Math.floor(y * h / H) * w);
        const inside = (x, y, l) => label[line[Math.min(H - 1, Math.max(0, y))] + column[Math.min(W - 1, Math.max(0, x))]] == l;
        for (let y = 0; y < H && mode != "none"; y++)
            for (let x = 0; x < W; x++) {
                const k = line[y] + column[x], l = label[k];
                if (mode == "heat" ? !warm[k] : !l)
                    continue;
                if (mode == "lines" && inside(x - 2, y, l) && inside(x + 2, y, l) && inside(x, y - 2, l) && inside(x, y + 2, l))
                    continue;
                const colour = mode == "heat" ? heat(warm[k]) : colours[l], alpha = mode == "heat" ? Math.min(.83, warm[k] / 102) : mode == "paint" ? .6 : 1;
                for (let b = 0, o = 4 * (y * W + x); b < 3; b++)
                    d[o + b] += (colour[b] - d[o + b]) * alpha;
            }
        context.putImageData(over, 0, 0);
        context.fillStyle = "rgba(255, 255, 255, .35)";
        context.fillRect((at[c] + .5) * W / w, 0, 1, H);
        context.fillRect(0, (row(r, at[r]) + .5) * H / h, W, 1);
        plane.slider.value = at[across];
        plane.caption.textContent = `${plane.axes[0]}, slice ${at[across] + origin[across]}`;
    }
    const all = [], drawAll = () => all.forEach(draw);
    const move = (axis, to) => at[axis] = Math.min(size[axis] - 1, Math.max(0, to));

    for (const axes of planes) {
        const [name, across, c, r] = axes, figure = document.createElement("figure"), scale = Math.max(1, 460 / (size[c] * mm[c]));
        const plane = { axes, canvas: canvas(Math.round(size[c] * mm[c] * scale), Math.round(size[r] * mm[r] * scale)), caption: document.createElement("figcaption") };
        plane.slider = Object.assign(document.createElement("input"), { type: "range", min: 0, max: size[across] - 1, value: at[across] });
        plane.slider.setAttribute("aria-label", name + " slice");
        plane.canvas.setAttribute("role", "img");
        plane.canvas.setAttribute("aria-label", name + " slice with the segmentation");
        plane.slider.oninput = () => {
            move(across, +plane.slider.value);
            drawAll();
        };
        plane.canvas.onclick = e => {
            const box = plane.canvas.getBoundingClientRect();
            move(c, Math.floor((e.clientX - box.left) / box.width * size[c]));
            move(r, row(r, Math.floor((e.clientY - box.top) / box.height * size[r])));
            drawAll();
        };
        plane.canvas.addEventListener("wheel", e => {
            e.preventDefault();
            move(across, at[across] + (e.deltaY > 0 ? -1 : 1));
            drawAll();
        }, { passive: false });
        figure.append(plane.canvas, plane.slider, plane.caption);
        document.getElementById("planes").append(figure);
        all.push(plane);
    }
    scan.onchange = shown.onchange = drawAll;

    const image = document.getElementById("voxels");
    function begin() {
        const whole = canvas(image.naturalWidth, image.naturalHeight), context = whole.getContext("2d", { willReadFrequently: true });
        context.drawImage(image, 0, 0);
        wide = image.naturalWidth;
        voxels = context.getImageData(0, 0, wide, image.naturalHeight).data;
        viewer.hidden = false;
        drawAll();
    }
    if (image.complete && image.naturalWidth)
        begin();
    else
        image.addEventListener("load", begin);
})();

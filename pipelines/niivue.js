// Scan and segmentation in NiiVue, of the voxels that the page has (#voxels, overlay -p; #viewer says how they lie): slices, and a head to turn.
(async () => {
    const viewer = document.getElementById("viewer"), image = document.getElementById("voxels"), numbers = name => viewer.dataset[name].split(" ").map(Number);
    const size = numbers("size"), mm = numbers("spacing"), columns = +viewer.dataset.columns;
    await image.decode();
    const wide = image.naturalWidth, high = image.naturalHeight, context = Object.assign(document.createElement("canvas"), { width: wide, height: high }).getContext("2d");
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, wide, high).data;

    // A NIfTI file of a byte a voxel: x runs to the patient's left, y to the posterior, the middle at 0.
    function nifti(value) {
        const file = new Uint8Array(352 + size[0] * size[1] * size[2]), head = new DataView(file.buffer);
        const [x, y, z] = mm.map((v, i) => v * (size[i] - 1) / 2);
        head.setInt32(0, 348, true);
        [3, ...size, 1, 1, 1, 1].forEach((v, i) => head.setInt16(40 + 2 * i, v, true));
        head.setInt16(70, 2, true);
        head.setInt16(72, 8, true);
        [1, ...mm].forEach((v, i) => head.setFloat32(76 + 4 * i, v, true));
        head.setFloat32(108, 352, true);
        head.setFloat32(112, 1, true);
        head.setInt16(254, 1, true);
        [-mm[0], 0, 0, x, 0, -mm[1], 0, y, 0, 0, mm[2], -z].forEach((v, i) => head.setFloat32(280 + 4 * i, v, true));
        file.set([2], 123);
        file.set([110, 43, 49], 344);
        for (let k = 0, at = 352; k < size[2]; k++)
            for (let j = 0; j < size[1]; j++)
                for (let i = 0, p = 4 * ((Math.floor(k / columns) * size[1] + j) * wide + k % columns * size[0]); i < size[0]; i++, p += 4)
                    file[at++] = value(p);
        let text = "";
        for (let i = 0; i < file.length; i += 32768)
            text += String.fromCharCode(...file.subarray(i, i + 32768));
        return btoa(text);
    }

    const nv = new niivue.Niivue({ backColor: [0, 0, 0, 1], multiplanarForceRender: true });
    await nv.attachTo("niivue");
    nv.addColormap("tumour", { R: [0, 213, 86, 240], G: [0, 94, 180, 228], B: [0, 0, 233, 66], A: [0, 255, 255, 255], I: [0, 85, 170, 255] });
    nv.addVolume(await niivue.NVImage.loadFromBase64({ name: "scan.nii", colormap: "gray", base64: nifti(p => pixels[p]) }));
    nv.addVolume(await niivue.NVImage.loadFromBase64({ name: "segmentation.nii", colormap: "tumour", cal_min: 0, cal_max: 3, opacity: .6, base64: nifti(p => pixels[p + 2] & 7) }));
    nv.setInterpolation(true);
    nv.setSliceType(nv.sliceTypeMultiplanar);
    const origin = numbers("origin"), at = numbers("at").map((v, i) => v - origin[i]);
    nv.scene.crosshairPos = nv.mm2frac(at.map((v, i) => (i < 2 ? -1 : 1) * mm[i] * (v - (size[i] - 1) / 2)));
    nv.drawScene();
})();

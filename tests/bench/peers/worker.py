"""One peer, as a process that does one piece of work for each line on its standard input.

  worker.py torch-infer BASE N H W THREADS nchw|nhwc f32|bf16   worker.py onnxruntime MODEL.onnx N H W THREADS
  worker.py torch-train BASE N H W THREADS nchw|nhwc f32|bf16   worker.py openvino    MODEL.onnx N H W THREADS f32|own
  worker.py torch-nnunet2d BASE N H W THREADS nchw|nhwc f32|bf16   (training, by nnU-Net's recipe)
  worker.py torch-infer3d|torch-train3d BASE POOL_Z D H W THREADS ncdhw|ndhwc f32|bf16
  worker.py export BASE N H W MODEL.onnx                        (PyTorch writes the model and the process ends)

PyTorch's bf16 is autocast; `own` is the precision that OpenVINO chooses for this processor. Prints its version once it is ready; then, for each line, the seconds that one batch took; at the end of
its input the peak resident memory in KiB.
"""
import sys
import time


def torch_infer(base, n, h, w, threads, layout, precision):
    import torch
    from unet import UNet
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    net, x = UNet(base).eval(), torch.randn(n, 4, h, w)
    if layout == "nhwc":
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)

    def step():
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            net(x)
    return torch.__version__, step


def torch_train(base, n, h, w, threads, layout, precision, nnunet=False):
    import torch
    from unet import NNUNet2d, UNet, deep_loss, dice_loss
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    net, x = (NNUNet2d if nnunet else UNet)(base).train(), torch.randn(n, 4, h, w)
    labels = torch.randint(0, 4, (n, h, w))
    if layout == "nhwc":
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    if nnunet:
        optimiser = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.99, nesterov=True, weight_decay=3e-5)
    else:
        optimiser = torch.optim.Adam(net.parameters(), 1e-3)

    def step():
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = net(x)
        if nnunet:
            deep_loss([z.float() for z in logits], labels).backward()
        else:
            dice_loss(logits.float(), labels).backward()
        optimiser.step()
    return torch.__version__, step


def torch_nnunet2d(*args):
    return torch_train(*args, nnunet=True)


def torch_3d(work, base, pool_z, d, h, w, threads, layout, precision):
    import torch
    from unet import UNet3d, dice_loss
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    net, x = UNet3d(base, pool_z), torch.randn(1, 4, d, h, w)
    labels = torch.randint(0, 4, (1, d, h, w))
    if layout == "ndhwc":
        net, x = net.to(memory_format=torch.channels_last_3d), x.contiguous(memory_format=torch.channels_last_3d)
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    autocast = lambda: torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")

    def train():
        optimiser.zero_grad(set_to_none=True)
        with autocast():
            logits = net(x)
        dice_loss(logits.float(), labels).backward()
        optimiser.step()

    def infer():
        with torch.inference_mode(), autocast():
            net(x)
    net.train(work == "train")
    return torch.__version__, train if work == "train" else infer


def onnxruntime(model, n, h, w, threads):
    import numpy as np
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: np.random.default_rng(1).standard_normal((n, 4, h, w), dtype=np.float32)}
    return ort.__version__, lambda: session.run(None, feed)


def openvino(model, n, h, w, threads, precision):
    import numpy as np
    import openvino as ov
    core = ov.Core()
    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if precision == "f32":  # by default it computes in bfloat16 where the processor can
        options["INFERENCE_PRECISION_HINT"] = "f32"
    net = core.compile_model(model, "CPU", options)
    took = net.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    request = net.create_infer_request()
    x = np.random.default_rng(1).standard_normal((n, 4, h, w), dtype=np.float32)
    return f"{ov.__version__.split('-')[0]}, {took}", lambda: request.infer({0: x})


def export(base, n, h, w, path):
    import torch
    from unet import UNet
    torch.manual_seed(1)
    torch.onnx.export(UNet(base).eval(), torch.randn(n, 4, h, w), path, input_names=["image"], output_names=["logits"])


def peak_kib():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))


def main(kind, *args):
    args = [int(a) if a.isdigit() else a for a in args]
    if kind == "export":
        return export(*args)
    version, step = {"torch-infer": torch_infer, "torch-train": torch_train, "torch-nnunet2d": torch_nnunet2d,
                     "torch-train3d": lambda *a: torch_3d("train", *a), "torch-infer3d": lambda *a: torch_3d("infer", *a),
                     "onnxruntime": onnxruntime, "openvino": openvino}[kind](*args)
    for _ in range(1 if kind.endswith("3d") else 2):
        step()
    print(version, flush=True)
    for _ in sys.stdin:
        t = time.perf_counter()
        step()
        print(time.perf_counter() - t, flush=True)
    print(peak_kib(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

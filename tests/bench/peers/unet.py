"""The U-Net of this project, and nnU-Net's 2-D network, in PyTorch, for the peers of the benchmarks.

Parameter names, widths and the two losses are those of lib/nn: 3x3 convolution + batch normalisation +
ReLU twice a block, 2x2 max pooling, 2x2 transposed convolution, skips, a 1x1 head.
"""
import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    conv, norm, turned = nn.Conv2d, nn.BatchNorm2d, nn.ConvTranspose2d

    def __init__(self, cin, cout):
        super().__init__()
        self.conv1 = self.conv(cin, cout, 3, padding=1, bias=False)
        self.norm1 = self.norm(cout)
        self.conv2 = self.conv(cout, cout, 3, padding=1, bias=False)
        self.norm2 = self.norm(cout)

    def forward(self, x):
        x = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(x)))


class Up(Block):
    def __init__(self, cin, cout, factor=2):
        super().__init__(2 * cout, cout)
        self.up = self.turned(cin, cout, factor, stride=factor)

    def forward(self, x, skip):
        return super().forward(torch.cat([skip, self.up(x)], 1))


class UNet(nn.Module):
    def __init__(self, base, cin=4, classes=4):
        super().__init__()
        width = [base << i for i in range(5)]
        for i in range(4):
            setattr(self, f"enc{i + 1}", Block(([cin] + width)[i], width[i]))
        self.bottleneck = Block(width[3], width[4])
        for i in (4, 3, 2, 1):
            setattr(self, f"dec{i}", Up(width[i], width[i - 1]))
        self.head = nn.Conv2d(base, classes, 1)

    def forward(self, x):
        skips = []
        for i in (1, 2, 3, 4):
            x = getattr(self, f"enc{i}")(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottleneck(x)
        for i in (4, 3, 2, 1):
            x = getattr(self, f"dec{i}")(x, skips[i - 1])
        return self.head(x)


class Block3d(Block):
    conv, norm, turned = nn.Conv3d, nn.BatchNorm3d, nn.ConvTranspose3d


class Up3d(Up, Block3d):
    pass


class UNet3d(nn.Module):
    """pipelines/networks/unet3d.yaml, with kernels of 3x3x3; the last pool_z poolings go along z too."""
    def __init__(self, base, pool_z, cin=4, classes=4):
        super().__init__()
        width = [base << i for i in range(5)]
        self.factor = [(1 + (i >= 4 - pool_z), 2, 2) for i in range(4)]
        self.down = nn.ModuleList(Block3d(([cin] + width)[i], width[i]) for i in range(5))
        self.up = nn.ModuleList(Up3d(width[i + 1], width[i], self.factor[i]) for i in range(4))
        self.head = nn.Conv3d(base, classes, 1)

    def forward(self, x):
        skips = []
        for i in range(4):
            x = self.down[i](x)
            skips.append(x)
            x = F.max_pool3d(x, self.factor[i])
        x = self.down[4](x)
        for i in (3, 2, 1, 0):
            x = self.up[i](x, skips[i])
        return self.head(x)


def dice_loss(logits, labels, eps=1e-5):
    """1 - mean over all classes of (2 sum p o + eps) / (sum p + sum o + eps), sums over the batch."""
    p = logits.softmax(1)
    o = F.one_hot(labels.long(), p.shape[1]).movedim(-1, 1).to(p.dtype)
    axes = (0, *range(2, p.dim()))
    both, total = (p * o).sum(axes), p.sum(axes) + o.sum(axes)
    return 1 - ((2 * both + eps) / (total + eps)).mean()


class Layer(nn.Sequential):
    """Convolution, instance normalisation, leaky ReLU: nnU-Net's layer."""
    def __init__(self, cin, cout, stride=1):
        super().__init__(nn.Conv2d(cin, cout, 3, stride, 1), nn.InstanceNorm2d(cout, affine=True), nn.LeakyReLU(0.01, inplace=True))


class NNUNet2d(nn.Module):
    """pipelines/networks/nnunet2d.yaml: its logits, then those of the coarser decoder stages."""
    def __init__(self, base, cin=4, classes=4):
        super().__init__()
        width = [min(512, base << i) for i in range(6)]
        self.down = nn.ModuleList(nn.Sequential(Layer(([cin] + width)[i], width[i], 2 if i else 1), Layer(width[i], width[i]))
                                  for i in range(6))
        self.up = nn.ModuleList(nn.ConvTranspose2d(width[i + 1], width[i], 2, 2) for i in range(5))
        self.stage = nn.ModuleList(nn.Sequential(Layer(2 * width[i], width[i]), Layer(width[i], width[i])) for i in range(5))
        self.head = nn.ModuleList(nn.Conv2d(width[i], classes, 1) for i in range(4))

    def forward(self, x):
        skips = []
        for stage in self.down:
            x = stage(x)
            skips.append(x)
        heads = []
        for i in (4, 3, 2, 1, 0):
            x = self.stage[i](torch.cat([skips[i], self.up[i](x)], 1))
            if i < 4:
                heads.insert(0, self.head[i](x))
        return heads


def deep_loss(heads, labels):
    """Dice of all classes but the background, and cross-entropy, each head with half the weight of the one above; labels
    of the coarser ones are those nearest to their pixels."""
    loss = 0
    for i, logits in enumerate(heads):
        t = labels[:, (1 << i) // 2::1 << i, (1 << i) // 2::1 << i]
        p = logits.softmax(1)[:, 1:]
        o = F.one_hot(t, logits.shape[1]).permute(0, 3, 1, 2)[:, 1:].to(p.dtype)
        both, total = (p * o).sum((0, 2, 3)), p.sum((0, 2, 3)) + o.sum((0, 2, 3))
        dice = 1 - ((2 * both + 1e-5) / (total + 1e-5)).mean()
        loss = loss + (8 >> i) / 15 * (dice + F.cross_entropy(logits, t))
    return loss

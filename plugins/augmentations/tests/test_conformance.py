"""The augmentations keep what their kind promises."""

from __future__ import annotations

from roadwork_core.testing import AugmentationContract


class TestAugMix(AugmentationContract):
    component = "augmentations/aug_mix"
    variants = ({"depth": 2},)


class TestAutocontrast(AugmentationContract):
    component = "augmentations/autocontrast"


class TestCenterCrop(AugmentationContract):
    component = "augmentations/center_crop"
    variants = ({"size": 24},)


class TestColorJitter(AugmentationContract):
    component = "augmentations/color_jitter"


class TestCutmix(AugmentationContract):
    component = "augmentations/cutmix"
    variants = ({"p": 1.0},)


class TestEqualize(AugmentationContract):
    component = "augmentations/equalize"


class TestGaussianBlur(AugmentationContract):
    component = "augmentations/gaussian_blur"


class TestGaussianNoise(AugmentationContract):
    component = "augmentations/gaussian_noise"
    variants = ({"p": 1.0, "sigma": 200.0},)


class TestGrayscale(AugmentationContract):
    component = "augmentations/grayscale"
    variants = ({"p": 1.0},)


class TestHorizontalFlip(AugmentationContract):
    component = "augmentations/horizontal_flip"


class TestJpeg(AugmentationContract):
    component = "augmentations/jpeg"
    variants = ({"p": 1.0},)


class TestMixup(AugmentationContract):
    component = "augmentations/mixup"


class TestPosterize(AugmentationContract):
    component = "augmentations/posterize"


class TestRandAugment(AugmentationContract):
    component = "augmentations/rand_augment"


class TestRandomAffine(AugmentationContract):
    component = "augmentations/random_affine"
    variants = ({"shear": 5.0, "interpolation": "nearest", "fill": 128},)


class TestRandomCrop(AugmentationContract):
    component = "augmentations/random_crop"
    variants = ({"size": 40, "padding": 6, "padding_mode": "reflect"},)


class TestRandomErasing(AugmentationContract):
    component = "augmentations/random_erasing"
    variants = ({"p": 1.0, "fill": 127},)


class TestRandomPerspective(AugmentationContract):
    component = "augmentations/random_perspective"


class TestRandomResizedCrop(AugmentationContract):
    component = "augmentations/random_resized_crop"
    variants = ({"size": 24, "interpolation": "bicubic"},)


class TestRandomRotation(AugmentationContract):
    component = "augmentations/random_rotation"


class TestResize(AugmentationContract):
    component = "augmentations/resize"
    variants = ({"size": 24, "keep_ratio": True, "interpolation": "bicubic"},)


class TestSharpness(AugmentationContract):
    component = "augmentations/sharpness"


class TestTrivialAugment(AugmentationContract):
    component = "augmentations/trivial_augment"


class TestAutoAugment(AugmentationContract):
    component = "augmentations/auto_augment"
    variants = ({"policy": "svhn"},)


class TestChannelPermutation(AugmentationContract):
    component = "augmentations/channel_permutation"
    variants = ({"p": 1.0},)


class TestElastic(AugmentationContract):
    component = "augmentations/elastic"
    variants = ({"p": 1.0, "interpolation": "nearest", "fill": 9},)


class TestInvert(AugmentationContract):
    component = "augmentations/invert"
    variants = ({"p": 1.0},)


class TestPad(AugmentationContract):
    component = "augmentations/pad"
    variants = ({"padding": 3, "padding_mode": "edge", "fill": 9},)


class TestPhotometricDistort(AugmentationContract):
    component = "augmentations/photometric_distort"
    variants = ({"p": 1.0},)


class TestRandomResize(AugmentationContract):
    component = "augmentations/random_resize"
    variants = ({"sides": [20, 40], "interpolation": "bicubic"},)


class TestSolarize(AugmentationContract):
    component = "augmentations/solarize"
    variants = ({"p": 1.0, "threshold": 30},)


class TestValidatorDistortions(AugmentationContract):
    component = "augmentations/validator_distortions"
    variants = ({"level": 0, "size": 32}, {"level": 1, "size": 32}, {"level": 2, "size": 48}, {"level": 3, "size": 32})


class TestVerticalFlip(AugmentationContract):
    component = "augmentations/vertical_flip"


class TestZoomOut(AugmentationContract):
    component = "augmentations/zoom_out"
    variants = ({"p": 1.0, "fill": 9},)

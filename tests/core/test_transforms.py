"""Normalisation of single images, and inverted colours, in torchvision's v2 pipelines."""

import pickle

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from common.data import InvertColors, SamplewiseNormalize

SHAPES = [(1, 5, 7), (3, 16, 16), (4, 3, 16, 16)]


def an_image(shape, dtype=torch.float32, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, shape)
    image = torch.from_numpy(values)
    return image.to(dtype) if dtype in (torch.uint8, torch.int32) else (image / 255).to(dtype)


def normalized(image):
    values = np.asarray(image, np.float64)
    return (values - values.mean((-2, -1), keepdims=True)) / values.std((-2, -1), keepdims=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.uint8, torch.int32])
def test_each_channel_of_each_image_gets_mean_0_and_deviation_1(shape, dtype):
    image = an_image(shape, dtype)
    before = image.clone()
    result = SamplewiseNormalize()(image)
    assert result.shape == image.shape
    assert result.dtype == (dtype if dtype.is_floating_point else torch.float32)
    np.testing.assert_allclose(result, normalized(image), atol=2e-3 if dtype == torch.float16 else 1e-5)
    assert (image == before).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.uint8])
def test_one_value_throughout_becomes_zeros_and_leaves_the_others_as_they_are(dtype):
    image = an_image((3, 33, 31), dtype)
    expected = normalized(image)
    image[1] = image.flatten()[5]
    result = SamplewiseNormalize()(image)
    assert (result[1] == 0).all()
    np.testing.assert_allclose(result[[0, 2]], expected[[0, 2]], atol=2e-3)


def test_an_image_of_tiny_values_or_differences_is_normalised_too():
    image = an_image((1, 8, 8), torch.float64)
    for scale, shift in ((1e-30, 0.0), (1e30, 0.0), (2**-10, 1.0)):
        scaled = (image * scale + shift).float()
        np.testing.assert_allclose(SamplewiseNormalize()(scaled), normalized(scaled), atol=2e-3)


def test_the_gradient_is_that_of_the_formula_and_finite_for_constant_images():
    image = an_image((2, 1, 4, 4), torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(SamplewiseNormalize(), (image,))
    assert torch.autograd.gradcheck(InvertColors(), (image,))
    constant = torch.full((1, 4, 4), 0.3, requires_grad=True)
    SamplewiseNormalize()(constant).sum().backward()
    assert constant.grad.isfinite().all()


def test_inverting_subtracts_from_white():
    whole, part = an_image((4, 3, 16, 16), torch.uint8), an_image((1, 5, 7))
    inverted = InvertColors()(whole)
    assert inverted.dtype == torch.uint8
    assert (inverted.numpy() == 255 - whole.numpy()).all()
    np.testing.assert_array_equal(InvertColors()(part), 1 - part.numpy())
    assert (InvertColors()(inverted) == whole).all()


def test_pil_images_are_taken():
    for shape, mode in (((9, 6), "L"), ((9, 6, 3), "RGB")):
        values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        picture = PIL.Image.fromarray(values)
        inverted = InvertColors()(picture)
        assert inverted.mode == mode and (np.asarray(inverted) == 255 - values).all()
        result = SamplewiseNormalize()(picture)
        assert isinstance(result, tv_tensors.Image)
        np.testing.assert_allclose(result, normalized(values.reshape(9, 6, -1).transpose(2, 0, 1)), atol=1e-5)


def test_other_pixel_types_are_refused_with_what_was_expected():
    with pytest.raises(TypeError, match=r"InvertColors: found an image of torch\.int32, expected uint8, or floats"):
        InvertColors()(torch.zeros(1, 2, 2, dtype=torch.int32))
    with pytest.raises(TypeError, match="mode RGBA, expected L or RGB"):
        InvertColors()(PIL.Image.new("RGBA", (2, 2)))
    with pytest.raises(TypeError, match=r"SamplewiseNormalize: found an image of torch\.bool"):
        SamplewiseNormalize()(torch.zeros(1, 2, 2, dtype=torch.bool))


def test_images_keep_their_type_and_masks_and_labels_their_values():
    image = tv_tensors.Image(an_image((3, 8, 8), torch.uint8))
    mask = tv_tensors.Mask(torch.ones(8, 8, dtype=torch.uint8))
    for transform in (SamplewiseNormalize(), InvertColors()):
        sample = {"image": image, "mask": mask, "label": torch.tensor(1)}
        result = transform(sample)
        assert type(result["image"]) is tv_tensors.Image and not torch.equal(result["image"], image)
        assert type(result["mask"]) is tv_tensors.Mask and torch.equal(result["mask"], mask)
        assert result["label"] == 1


def test_they_work_in_a_pipeline_after_pickling_and_without_gradients():
    pipeline = v2.Compose([InvertColors(), v2.ToDtype(torch.float32, scale=True), SamplewiseNormalize()])
    batch = an_image((2, 3, 8, 8), torch.uint8)
    with torch.no_grad():
        result = pipeline(batch)
    np.testing.assert_allclose(result, -normalized(batch), atol=1e-5)
    assert torch.equal(pickle.loads(pickle.dumps(pipeline))(batch), result)

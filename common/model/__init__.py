"""Networks: backbones with pretrained weights, and the head that is fine-tuned on top."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "backbones": ["load_backbone"],
        "classifier": ["Classifier", "HeadOnly", "build_classifier", "load_classifier", "save_classifier"],
        "cnn": ["CNN"],
        "modules": ["build_module"],
        "small_cnn": ["SmallCNN"],
        "summary": ["summary_of"],
    },
)

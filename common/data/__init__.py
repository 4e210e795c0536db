"""Images and their labels: where they come from, how they are read, and how they are split."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "folders": ["split_data"],
        "images": ["ImageTable", "decode"],
        "sources": ["download_oxford_pets", "find_images", "load_images"],
        "splits": [
            "Fold",
            "folds_of",
            "folds_of_all",
            "load_splits",
            "make_splits",
            "random_fold",
            "save_splits",
            "splits_file",
        ],
        "transforms": ["InvertColors", "SamplewiseNormalize", "Scale"],
    },
)

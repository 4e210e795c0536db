from .backbones import load_backbone as load_backbone
from .classifier import (
    Classifier as Classifier,
    HeadOnly as HeadOnly,
    load_classifier as load_classifier,
    make_classifier as make_classifier,
    save_classifier as save_classifier,
)
from .cnn import CNN as CNN
from .modules import build_module as build_module
from .small_cnn import SmallCNN as SmallCNN
from .summary import summary_of as summary_of

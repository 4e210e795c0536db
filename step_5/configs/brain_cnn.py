"""Head slices with and without a lesion: the search builds the CNN, and the best one so far is in production."""

from functools import partial

from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR

from common.config import SGD, AdamW, Augmentation, Categorical, Float, TrainingConfig
from common.data.transforms import SamplewiseNormalize
from common.search import CNNSpace

data = "phantoms"  # defaults of flags of these names
n_trials = 6
register = "brain_cnn"

config = TrainingConfig(
    model=CNNSpace(
        min_blocks=3,
        max_blocks=4,
        min_width=12,
        max_width=24,
        max_dense=1,
        kernels=(3, 5),
        norms=("batch", "instance"),
    ),
    image_size=48,
    transforms=(SamplewiseNormalize(),),
    score="mcc",
    warmup_epochs=0,
    epochs=12,
    patience=12,
    batch_size=Categorical([8, 16]),
    optimizer=Categorical([AdamW(), SGD()]),
    learning_rate=Float(1e-3, 2e-2, log=True),
    schedulers=Categorical([(), (partial(ExponentialLR, gamma=0.9),), (partial(CosineAnnealingLR, T_max=12),)]),
    augmentation=Augmentation(rotation=15, shift=0.05, zoom=0.1, brightness=0.1, contrast=0.1, saturation=0),
)

from .chosen import chosen_on as chosen_on
from .csv_tables import read_table as read_table
from .folders import split_data as split_data
from .folding import (
    Fold as Fold,
    folds_of as folds_of,
    folds_of_all as folds_of_all,
    random_fold as random_fold,
)
from .images import ImageTable as ImageTable, decode as decode
from .sources import (
    download_oxford_pets as download_oxford_pets,
    find_images as find_images,
    load_images as load_images,
)
from .splits import (
    check_drawn as check_drawn,
    current_splits as current_splits,
    load_splits as load_splits,
    own_splits as own_splits,
    save_splits as save_splits,
    splits_file as splits_file,
)
from .splitting import make_splits as make_splits
from .transforms import InvertColors as InvertColors, SamplewiseNormalize as SamplewiseNormalize, Scale as Scale

from .ensemble import Ensemble as Ensemble
from .final import register as register
from .promotion import (
    create_version as create_version,
    production_version as production_version,
    standing as standing,
)
from .registry import load_production as load_production, load_version as load_version

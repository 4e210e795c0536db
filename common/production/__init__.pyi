from .ensemble import Ensemble as Ensemble
from .final import register as register
from .promotion import (
    create_version as create_version,
    is_production as is_production,
    production_version as production_version,
)
from .registry import load_production as load_production, load_version as load_version

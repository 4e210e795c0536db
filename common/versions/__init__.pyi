from .restoring import checkout as checkout
from .tracked import status as status, track as track, version_of as version_of

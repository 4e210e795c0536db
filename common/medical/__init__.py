"""Medical images as they come: DICOM and NIfTI files, read, grouped by patient, audited; and phantoms written as DICOM.

``python -m common.medical phantoms TARGET`` writes a folder of DICOM files, ``volumes SOURCE TARGET.npz`` the volumes
of NIfTI files as arrays.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

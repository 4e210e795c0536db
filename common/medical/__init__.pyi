from .scan_listing import list_scans as list_scans, parts_of as parts_of
from .scan_reading import read_scan as read_scan
from .tags import column_of_tags as column_of_tags, look_at_tags as look_at_tags, technical as technical

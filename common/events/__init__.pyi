from .reporting import report as report, reporting as reporting

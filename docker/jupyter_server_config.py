"""JupyterLab's settings for run_script.bash: one address, with a random token, that only this machine reaches."""

import os

from jupyter_server.serverapp import ServerApp

c = get_config()  # noqa: F821
in_image = bool(os.environ.get("REPROAI_IMAGE"))
c.ServerApp.ip = "127.0.0.1"
if in_image and os.environ.get("REPROAI_LISTEN"):  # run_script.bash publishes one port, to 127.0.0.1 outside
    c.ServerApp.ip = os.environ["REPROAI_LISTEN"]
    c.ServerApp.port_retries = 0
    ServerApp.connect_url = ServerApp.local_url  # the container's other addresses mean nothing outside
c.ServerApp.allow_root = in_image and "ROOTLESS" in os.environ
c.ServerApp.open_browser = False
ServerApp.no_browser_open_file = True  # else a second address, of a file
c.Application.log_level = "WARN"

"""JupyterLab's settings for run_script.bash: one address, with a random token, that only this machine reaches."""

import os

from jupyter_server.serverapp import ServerApp

c = get_config()  # noqa: F821
c.ServerApp.ip = os.environ.get("LISTEN", "127.0.0.1")
if "LISTEN" in os.environ:  # a container, of which one port is published
    c.ServerApp.port_retries = 0
    ServerApp.connect_url = ServerApp.local_url  # the container's other addresses mean nothing outside
c.ServerApp.allow_root = "ROOTLESS" in os.environ
c.ServerApp.open_browser = False
ServerApp.no_browser_open_file = True  # else a second address, of a file
c.Application.log_level = "WARN"

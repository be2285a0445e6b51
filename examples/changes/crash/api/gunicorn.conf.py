import os

bind = "0.0.0.0:8000"
# Nobody has given the service this variable: it dies when it starts, and nothing before that notices.
workers = int(os.environ["WORKERS"])
# Requests that are under way when the task is stopped; the task's stopTimeout has to be longer.
graceful_timeout = 25
# The service's user has no home for it.
control_socket_disable = True

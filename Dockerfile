# One image for the service and for its MLflow server: the same locked environment, another command.
# Whoever publishes it adds the digest of the day to both FROM lines (tag@sha256:…): a tag can move.

FROM python:3.11.15-slim-bookworm AS build
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_COMPILE_BYTECODE=1 \
    UV_NO_CACHE=1 \
    UV_PYTHON_DOWNLOADS=never \
    VIRTUAL_ENV=/opt/vigie
RUN uv venv "$VIRTUAL_ENV"
WORKDIR /src
COPY requirements.lock ./
# PyPI's torch brings gigabytes of CUDA. The backend takes torch, and torch alone, from PyTorch's
# CPU index, where ==2.13.0 is met by 2.13.0+cpu. --no-deps: what is not in the lock stays out.
RUN uv pip install --torch-backend cpu --no-deps --requirements requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY app ./app
COPY vigie ./vigie
# The wheel holds `vigie` alone; the image has the import paths of the guide as well.
RUN uv pip install --no-deps . && cp -r app "$VIRTUAL_ENV"/lib/python3.11/site-packages/
# The kernels are compiled here, for the processor at hand. What is kept goes by the time of the
# source, of which a layer of an image holds whole seconds.
RUN cd "$VIRTUAL_ENV"/lib/python3.11/site-packages/vigie/detectors \
    && find . -name '*.py' -exec touch --date=@1000000000 {} + \
    && "$VIRTUAL_ENV"/bin/python -m compileall -q . \
    && NUMBA_CACHE_DIR=/opt/vigie/kernels "$VIRTUAL_ENV"/bin/python -m vigie.detectors.compiled

FROM python:3.11.15-slim-bookworm
# A fixed number, so that the owner of a volume survives a rebuild.
RUN groupadd --gid 10001 vigie \
    && useradd --uid 10001 --gid vigie --home-dir /var/lib/vigie --no-create-home vigie \
    && install --directory --owner=vigie --group=vigie /var/lib/vigie
COPY --from=build /opt/vigie /opt/vigie
# The file system may be read-only: caches go to /tmp, the state to a volume, bytecode nowhere.
ENV PATH=/opt/vigie/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    NUMBA_CACHE_DIR=/tmp/numba \
    GIT_PYTHON_REFRESH=quiet \
    MLFLOW_DISABLE_TELEMETRY=true \
    VIGIE_HOST=0.0.0.0 \
    VIGIE_PORT=8084 \
    VIGIE_STATE_DIR=/var/lib/vigie
WORKDIR /var/lib/vigie
USER 10001:10001
EXPOSE 8084
# Alive, not ready: a service without a model yet is healthy, and must not be restarted for it. It
# needs no API key; a certificate, if there is one, need not name 127.0.0.1.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, ssl, urllib.request as u; u.urlopen(('https' if os.environ.get('VIGIE_TLS_CERT') else 'http') + '://127.0.0.1:' + os.environ['VIGIE_PORT'] + '/api/v1/anomalies/health', timeout=4, context=ssl._create_unverified_context())"]
# numba reads what was compiled only where it may write too; on another processor it compiles anew.
ENTRYPOINT ["/bin/sh", "-c", "mkdir -p \"$NUMBA_CACHE_DIR\" && cp -R /opt/vigie/kernels/. \"$NUMBA_CACHE_DIR\"; exec \"$0\" \"$@\""]
CMD ["vigie", "serve"]

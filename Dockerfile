# The command in an image: no compiler, no package manager's cache, no root, nothing to write to but
# /tmp. Built by the release workflow; docs/container.md tells how it is run.
FROM python:3.13-slim AS build
WORKDIR /source
ENV VIRTUAL_ENV=/opt/backfill PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.txt ./
RUN python -m venv "$VIRTUAL_ENV" \
    && "$VIRTUAL_ENV/bin/python" -m pip install --quiet --require-hashes --requirement requirements.txt
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY backfill ./backfill
COPY docs/backfill.1 ./docs/
COPY migrations ./migrations
RUN "$VIRTUAL_ENV/bin/python" -m pip install --quiet --no-deps --no-build-isolation . \
    && "$VIRTUAL_ENV/bin/python" -m pip check \
    && "$VIRTUAL_ENV/bin/python" -m compileall -q "$VIRTUAL_ENV/lib" \
    && "$VIRTUAL_ENV/bin/python" -m pip uninstall --quiet --yes pip

FROM python:3.13-slim
LABEL org.opencontainers.image.title="backfill" \
    org.opencontainers.image.description="Keeps a Postgres table of OHLC bars complete, current and true." \
    org.opencontainers.image.licenses="MIT AND Apache-2.0"
COPY --from=build /opt/backfill /opt/backfill
# A disk that goes with the container is no place for bars: CI has an unset DATABASE_URL refused.
ENV PATH=/opt/backfill/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 CI=true \
    BACKFILL_LOG=json HOME=/tmp
USER 65532:65532
WORKDIR /tmp
# By the ledger: a run began within five days, the longest that exchanges are closed for and one more.
HEALTHCHECK --interval=10m --timeout=60s --start-period=1h --retries=2 \
    CMD ["backfill", "sql", "SELECT 1 / count(*) FROM backfill_runs WHERE started_at > now() - interval '5 days'"]
ENTRYPOINT ["backfill"]
CMD ["run", "--all", "--watch"]

# One image for every process: `docker run assent edge`, `… deliver --classes marketing`, `… settle`, `… ledger`, …
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY deploy/requirements.lock ./
RUN python -m venv /opt/assent \
    && /opt/assent/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY gateway ./gateway
RUN cp -r gateway "$(/opt/assent/bin/python -c 'import site; print(site.getsitepackages()[0])')/gateway" \
    && /opt/assent/bin/python -m compileall -q /opt/assent/lib

FROM python:3.12-slim-bookworm
RUN groupadd --system --gid 10001 assent \
    && useradd --system --uid 10001 --gid assent --home-dir /nonexistent --shell /usr/sbin/nologin assent \
    && install -d -o assent -g assent /run/assent /var/lib/assent/ledger
COPY --from=build /opt/assent /opt/assent
ENV PATH=/opt/assent/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ASSENT_HOST=0.0.0.0
USER assent
EXPOSE 8080 9100
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "gateway"]
CMD ["edge"]

# The service alone: base and extra `service`, every package by its hash. Another index: --build-arg PIP_INDEX_URL=...
FROM python:3.13-slim-trixie AS build
ARG PIP_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements requirements
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes -r requirements/build.txt \
 && /opt/build/bin/pip wheel --no-build-isolation --require-hashes -r requirements/service.txt -w /wheels
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY transfer transfer
COPY collector collector
RUN /opt/build/bin/pip wheel --no-build-isolation --no-deps -w /wheels . \
 && python -m venv --without-pip /opt/collector \
 && /opt/build/bin/pip --python /opt/collector/bin/python install --no-index --no-deps --compile /wheels/*.whl

FROM python:3.13-slim-trixie
COPY --from=build /opt/collector /opt/collector
ENV PATH=/opt/collector/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["collector"]
CMD ["run"]

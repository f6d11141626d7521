# docker build --target cpu --tag krona_tune:cpu .      or --target cuda, whose torch brings NVIDIA's libraries
# docker run --shm-size=2g --volume "$PWD/studies:/work/studies" krona_tune:cpu run --tasks glue
# docker run --gpus all --shm-size=8g --volume "$PWD/studies:/work/studies" krona_tune:cuda run --tasks glue --data hub
#
# The user of the container has the id 1000, which must be able to write the folder studies.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY krona_tune krona_tune
COPY search_spaces search_spaces
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

# What both images share. The package without its code is enough to install what it requires: a change of the code
# installs none of that again.
FROM python:${PYTHON}-slim AS start
RUN useradd --uid 1000 --create-home krona && install --directory --owner=krona /work /work/studies
WORKDIR /requirements
COPY pyproject.toml setup.py LICENSE ./
COPY krona_tune/__init__.py krona_tune/
RUN mkdir search_spaces && touch README.md
WORKDIR /work
ENV HF_HOME=/work/studies/huggingface PYTHONUNBUFFERED=1
ENTRYPOINT ["krona-tune"]
CMD ["--help"]
HEALTHCHECK --interval=5m --timeout=30s --start-period=1m CMD ["krona-tune", "doctor"]

FROM start AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN pip install --no-cache-dir "/requirements[peft,quantize,service,s3]"
RUN --mount=from=wheel,source=/wheel,target=/wheel pip install --no-cache-dir --no-deps --force-reinstall /wheel/*.whl
USER 1000

FROM start AS cpu
# The index of torch's builds for CPUs: --build-arg TORCH=URL. Without it this image brings NVIDIA's libraries too.
ARG TORCH=
RUN PIP_EXTRA_INDEX_URL="$TORCH" pip install --no-cache-dir "/requirements[peft,service,s3]"
RUN --mount=from=wheel,source=/wheel,target=/wheel pip install --no-cache-dir --no-deps --force-reinstall /wheel/*.whl
USER 1000

#!/bin/sh
# Steps that install pyramidai_mpi with an h5py that writes through MPI-IO, on Debian 12 and its Open MPI. Dockerfile,
# Apptainer definition and .ci/parallel_hdf5 run them:
#
#   install-parallel-hdf5.sh packages build      by apt: what compiling h5py takes
#   install-parallel-hdf5.sh packages run        by apt: what running takes
#   install-parallel-hdf5.sh environment FOLDER PIP-ARGUMENT...      a virtual environment; the arguments name the project
set -eu

install_packages() {
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

make_environment() {
  python3 -m venv "$1"
  PATH=$1/bin:$PATH
  shift
  pip install -q numpy mpi4py 'Cython>=3,<4' pkgconfig 'setuptools>=77.0.1,<81' packaging wheel
  # H5PY_SETUP_REQUIRES=0 and --no-build-isolation: otherwise h5py's build compiles an old mpi4py with 22 GB of memory
  H5PY_SETUP_REQUIRES=0 CC=mpicc.openmpi HDF5_MPI=ON HDF5_INCLUDEDIR=/usr/include/hdf5/openmpi \
    HDF5_LIBDIR="/usr/lib/$(gcc -print-multiarch)/hdf5/openmpi" \
    pip install -q --no-build-isolation --no-binary=h5py --no-deps h5py==3.16.0
  pip install -q "$@"
  python -c 'import h5py; assert h5py.get_config().mpi, "h5py was built without MPI"'
}

case "$*" in
  "packages build")
    install_packages ca-certificates gcc libc6-dev python3-dev python3-venv openmpi-bin libopenmpi-dev libhdf5-openmpi-dev
    ;;
  "packages run")
    install_packages python3 openmpi-bin libhdf5-openmpi-103-1 libhdf5-openmpi-hl-100
    ;;
  "environment "*" "*)
    shift
    make_environment "$@"
    ;;
  *)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 64
    ;;
esac

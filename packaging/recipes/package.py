# Spack. `make recipes URL=` says where the release is.
from spack_repo.builtin.build_systems.makefile import MakefilePackage

from spack.package import *


class Gliopipe(MakefilePackage):
    """Brain MRI to tumour segmentations, in pipes."""

    homepage = "@HOME@"
    url = "@URL@"
    license("MIT")

    version("@VERSION@", sha256="@SHA256@")
    variant("mpi", default=False, description="train by several processes")
    resource(
        name="nifti",
        url="https://github.com/NIFTI-Imaging/nifti_clib/archive/refs/tags/v3.0.1.tar.gz",
        sha256="868b611b5f8a3a73809436c9072db50db4975615905f0bd5fb7b1432e6d24b37",
        placement="nifti",
    )

    depends_on("c", type="build")
    depends_on("cmake", type="build")
    depends_on("gmake", type=("build", "run"))
    depends_on("gnuplot", type="run")
    depends_on("isa-l")
    depends_on("jansson")
    depends_on("libpng")
    depends_on("libyaml")
    depends_on("mpi", when="+mpi")
    depends_on("openblas", type="run")
    depends_on("utf8proc")
    depends_on("xxhash")
    depends_on("zlib-api")
    depends_on("zstd")
    conflicts("platform=darwin")
    conflicts("platform=windows")

    def setup_run_environment(self, env):
        if self.spec.satisfies("^openblas"):
            env.prepend_path("LD_LIBRARY_PATH", self.spec["openblas"].prefix.lib)

    def build(self, spec, prefix):
        cmake = which("cmake")
        cmake("-S", "nifti", "-B", "nifti/build", "-DCMAKE_INSTALL_PREFIX=" + join_path(self.stage.source_path, "nifti/out"),
              "-DCMAKE_INSTALL_LIBDIR=lib", "-DBUILD_SHARED_LIBS=OFF", "-DCMAKE_POSITION_INDEPENDENT_CODE=ON", "-DBUILD_TESTING=OFF")
        cmake("--build", "nifti/build", "--target", "install")

    def install(self, spec, prefix):
        make("install", "PREFIX=" + prefix, "PROGPREFIX=glio-", "PREFIXED=taken", "CPPFLAGS=-Inifti/out/include/nifti",
             "LDFLAGS=-Lnifti/out/lib", "MPI=" + ("1" if spec.satisfies("+mpi") else ""))

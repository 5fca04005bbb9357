# Homebrew, on Linux. `make recipes URL=` says where the release is.
class Gliopipe < Formula
  desc "Brain MRI to tumour segmentations, in pipes"
  homepage "@HOME@"
  url "@URL@"
  sha256 "@SHA256@"
  license "MIT"

  depends_on "cmake" => :build
  depends_on "gcc"
  depends_on "gnuplot"
  depends_on "isa-l"
  depends_on "jansson"
  depends_on "libpng"
  depends_on "libyaml"
  depends_on :linux
  depends_on "make"
  depends_on "openblas"
  depends_on "utf8proc"
  depends_on "xxhash"
  depends_on "zlib"
  depends_on "zstd"

  resource "nifti" do
    url "https://github.com/NIFTI-Imaging/nifti_clib/archive/refs/tags/v3.0.1.tar.gz"
    sha256 "868b611b5f8a3a73809436c9072db50db4975615905f0bd5fb7b1432e6d24b37"
  end

  def install
    nifti = buildpath/"nifti"
    resource("nifti").stage do
      system "cmake", "-S", ".", "-B", "build", "-DCMAKE_INSTALL_PREFIX=#{nifti}", "-DCMAKE_INSTALL_LIBDIR=lib",
             "-DBUILD_SHARED_LIBS=OFF", "-DCMAKE_POSITION_INDEPENDENT_CODE=ON", "-DBUILD_TESTING=OFF"
      system "cmake", "--build", "build", "--target", "install"
    end
    system "make", "install", "PREFIX=#{prefix}", "PROGPREFIX=glio-", "PREFIXED=taken",
           "CPPFLAGS=-I#{nifti}/include/nifti", "LDFLAGS=-L#{nifti}/lib"
  end

  test do
    system bin/"phantom", "-n", "1", "-d", "16x16x8", "-o", "cases"
    system bin/"gliopipe", "streams", "DATA=cases", "CROP=-s 8x8"
    assert_path_exists testpath/"study/streams"
  end
end

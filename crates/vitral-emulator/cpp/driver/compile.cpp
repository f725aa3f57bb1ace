#include "compile.hpp"
#include "../runtime/memory.hpp"
#include "source.hpp"
#include "state.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>

namespace driver {
static const char image_head[] = "// Vitral emulator\n// object: ";

// The folder of this library, with the emulator's headers and the kernels that were compiled for it.
static const std::string &folder() {
    static const std::string path = [] {
        Dl_info info;
        dladdr(reinterpret_cast<void *>(&compile), &info);
        char *real = realpath(info.dli_fname, nullptr);
        std::string text = real ? real : info.dli_fname;
        free(real);
        return text.substr(0, text.rfind('/'));
    }();
    return path;
}

static std::string quoted(const std::string &text) {
    std::string result = "'";
    for (char c : text) {
        if (c == '\'') result += "'\\''";
        else result += c;
    }
    return result + "'";
}

static std::string read_file(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

static bool write_file(const std::string &path, const std::string &text) {
    std::ofstream file(path, std::ios::binary);
    file << text;
    return bool(file.flush());
}

static bool exists(const std::string &path) { return access(path.c_str(), R_OK) == 0; }

// Two FNV-1a sums from different starts: no protection against malice, enough against chance.
static std::string fingerprint(const std::string &text) {
    uint64_t sums[2] = {0xcbf29ce484222325ull, 0x84222325cbf29ce4ull};
    for (unsigned char c : text)
        for (uint64_t &sum : sums) sum = (sum ^ c) * 0x100000001b3ull + (&sum - sums);
    char digits[40];
    snprintf(digits, sizeof digits, "%016llx%016llx", (unsigned long long)sums[0], (unsigned long long)sums[1]);
    return digits;
}

// Runs a command; what it writes on stderr goes to the log.
static bool run_command(const std::string &command, const std::string &log_file, std::string *log) {
    int status = system((command + " 2> " + quoted(log_file)).c_str());
    *log += read_file(log_file);
    unlink(log_file.c_str());
    return status == 0;
}

Compilation compile(const Program &program) {
    Compilation result;
    std::string all = program.source + '\0' + program.name + '\0' + program.architecture;
    for (auto &header : program.headers) all += '\0' + header.first + '\0' + header.second;
    for (auto &definition : program.definitions) all += '\0' + definition;
    std::string kernels = folder() + "/kernels", object = kernels + "/" + fingerprint(all) + ".so";
    result.image = image_head + object + "\n";
    if (exists(object)) {
        result.worked = true;
        return result;
    }
    mkdir(kernels.c_str(), 0777);
    // A name of this process alone, renamed when the object is complete: several may compile the same text.
    static unsigned counter = 0;
    std::string work = object + "." + std::to_string(getpid()) + "." + std::to_string(counter++);
    std::string headers = work + ".headers";
    mkdir(work.c_str(), 0777);
    mkdir(headers.c_str(), 0777);
    bool ready = true;
    for (auto &header : program.headers) {
        for (size_t slash = header.first.find('/'); slash != std::string::npos; slash = header.first.find('/', slash + 1))
            mkdir((headers + "/" + header.first.substr(0, slash)).c_str(), 0777);
        ready = ready && write_file(headers + "/" + header.first, header.second);
    }
    std::string base = program.name.substr(program.name.rfind('/') + 1);
    std::string original = work + "/" + (base.empty() ? "default_program" : base), expanded = work + "/expanded.cpp";
    std::string translated = work + "/translated.cpp", finished = work + "/finished.so", log_file = work + "/log";
    if (!ready || !write_file(original, program.source)) {
        result.log = "no file can be written in " + kernels + "\n";
        return result;
    }

    std::string preprocess = std::string(VITRAL_EMULATOR_COMPILER) + " -E -std=c++17 -x c++ -DVITRAL_EMULATE -D__CUDACC_RTC__";
    preprocess += " -D__CUDA_ARCH__=" + program.architecture + "0";
    for (auto &definition : program.definitions) preprocess += " " + quoted("-D" + definition);
    preprocess += " -I" + quoted(headers) + " " + quoted(original) + " -o " + quoted(expanded);
    // The older form of line numbers: addr2line mistakes the name of a file that has only one in the newer.
    std::string build = std::string(VITRAL_EMULATOR_COMPILER) +
                        " -std=c++17 -g1 -gdwarf-4 -fPIC -shared -w -ffp-contract=off -fno-exceptions -fno-strict-aliasing ";
    // Two files may have kernels of one name: nothing of one may stand for something of the other.
    build += "-fvisibility=hidden ";
    build += emu::checked ? VITRAL_EMULATOR_CHECKED_FLAGS : VITRAL_EMULATOR_FAST_FLAGS;
    std::string compile_only = build + " -include " + quoted(folder() + "/include/emulator.hpp") + " -x c++ " +
                               quoted(translated) + " -c -o " + quoted(finished + ".o");
    // Linked without the sanitizers' libraries: the hooks are in this library.
    std::string link = std::string(VITRAL_EMULATOR_COMPILER) + " -shared " + quoted(finished + ".o") + " -o " +
                       quoted(finished) + " -L" + quoted(folder()) + " -l:libvitral_emulator.so -Wl,-rpath," + quoted(folder());

    result.worked = run_command(preprocess, log_file, &result.log);
    if (result.worked) {
        std::string error, text = translate(read_file(expanded), &error);
        result.worked = error.empty() && write_file(translated, text);
        if (!error.empty()) result.log += program.name + ": error: " + error + "\n";
    }
    result.worked = result.worked && run_command(compile_only, log_file, &result.log) &&
                    run_command(link, log_file, &result.log) && rename(finished.c_str(), object.c_str()) == 0;
    // The compiler speaks of copies of the program's files.
    const std::pair<std::string, std::string> names[] = {{original, base}, {headers + "/", ""}};
    for (auto &[path, name] : names)
        for (size_t found; (found = result.log.find(path)) != std::string::npos;) result.log.replace(found, path.size(), name);
    if (!setting("VITRAL_EMULATOR_KEEP", 0)) {
        int ignored = system(("rm -rf " + quoted(work) + " " + quoted(headers)).c_str());
        (void)ignored;
    }
    return result;
}

int object_of_image(const char *image, std::string *path) {
    size_t length = strlen(image_head);
    if (strncmp(image, image_head, length)) {
        report("an image that is none of the emulator's");
        return InvalidImage;
    }
    const char *end = strchr(image + length, '\n');
    *path = std::string(image + length, end ? size_t(end - image) - length : strlen(image + length));
    // As for another GPU: a program that keeps images must ask for a new one.
    if (path->compare(0, folder().size() + 1, folder() + "/")) {
        report("an image of another build of the emulator: %s", path->c_str());
        return NoBinaryForGpu;
    }
    if (exists(*path)) return Success;
    report("an image whose object is gone: %s", path->c_str());
    return NoBinaryForGpu;
}
} // namespace driver

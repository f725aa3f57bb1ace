// NVRTC's interface.
#include "compile.hpp"
#include "state.hpp"

#include <cstring>
#include <mutex>

namespace {
enum Result : int { Success = 0, InvalidInput = 3, InvalidProgram = 4, InvalidOption = 5, CompilationFailed = 6 };

struct Handle {
    driver::Program program;
    driver::Compilation compilation;
};

int copy_text(const std::string &text, char *to) {
    memcpy(to, text.c_str(), text.size() + 1);
    return Success;
}

bool starts_with(const std::string &text, const char *prefix) { return text.compare(0, strlen(prefix), prefix) == 0; }

// `compute_90`, `sm_90a` and the like into `90`.
std::string architecture_number(const std::string &text) {
    size_t from = text.find_first_of("0123456789"), to = text.find_first_not_of("0123456789", from);
    return from == std::string::npos ? "" : text.substr(from, to == std::string::npos ? to : to - from);
}
} // namespace

EMU_API int nvrtcVersion(int *major, int *minor) {
    *major = 13;
    *minor = 0;
    return Success;
}

EMU_API int nvrtcGetNumSupportedArchs(int *count) {
    *count = 5;
    return Success;
}
EMU_API int nvrtcGetSupportedArchs(int *into) {
    const int known[] = {75, 80, 86, 89, 90};
    memcpy(into, known, sizeof known);
    return Success;
}

EMU_API const char *nvrtcGetErrorString(int code) {
    static const char *const names[] = {"NVRTC_SUCCESS",
                                        "NVRTC_ERROR_OUT_OF_MEMORY",
                                        "NVRTC_ERROR_PROGRAM_CREATION_FAILURE",
                                        "NVRTC_ERROR_INVALID_INPUT",
                                        "NVRTC_ERROR_INVALID_PROGRAM",
                                        "NVRTC_ERROR_INVALID_OPTION",
                                        "NVRTC_ERROR_COMPILATION",
                                        "NVRTC_ERROR_BUILTIN_OPERATION_FAILURE",
                                        "NVRTC_ERROR_NO_NAME_EXPRESSIONS_AFTER_COMPILATION",
                                        "NVRTC_ERROR_NO_LOWERED_NAMES_BEFORE_COMPILATION",
                                        "NVRTC_ERROR_NAME_EXPRESSION_NOT_VALID",
                                        "NVRTC_ERROR_INTERNAL_ERROR"};
    return code >= 0 && size_t(code) < sizeof names / sizeof names[0] ? names[code] : "NVRTC_ERROR unknown";
}

EMU_API int nvrtcCreateProgram(Handle **handle, const char *source, const char *name, int header_count,
                               const char *const *headers, const char *const *include_names) {
    if (!handle || !source) return InvalidInput;
    auto *made = new Handle;
    made->program.source = source;
    made->program.name = name ? name : "default_program";
    for (int i = 0; i < header_count; i++) made->program.headers.emplace_back(include_names[i], headers[i]);
    *handle = made;
    return Success;
}

EMU_API int nvrtcDestroyProgram(Handle **handle) {
    if (!handle || !*handle) return InvalidProgram;
    delete *handle;
    *handle = nullptr;
    return Success;
}

EMU_API int nvrtcCompileProgram(Handle *handle, int count, const char *const *options) {
    if (!handle) return InvalidProgram;
    driver::Program &program = handle->program;
    program.definitions.clear();
    program.architecture = "75";
    for (int i = 0; i < count; i++) {
        std::string option = options[i], value;
        // A value may follow an equals sign or be the next option.
        for (const char *name : {"--gpu-architecture", "-arch", "--define-macro", "-D", "--undefine-macro", "-U"}) {
            if (option != name || i + 1 >= count) continue;
            option = std::string(name) + "=" + options[++i];
            break;
        }
        if (starts_with(option, "--gpu-architecture=") || starts_with(option, "-arch=")) {
            program.architecture = architecture_number(option.substr(option.find('=') + 1));
            if (program.architecture.empty()) {
                handle->compilation.log = "nvrtc: error: invalid value for --gpu-architecture (-arch)\n";
                return InvalidOption;
            }
        } else if (starts_with(option, "--define-macro=")) {
            program.definitions.push_back(option.substr(strlen("--define-macro=")));
        } else if (starts_with(option, "-D=")) {
            program.definitions.push_back(option.substr(3));
        } else if (starts_with(option, "-D")) {
            program.definitions.push_back(option.substr(2));
        } else if (option.empty() || option[0] != '-') {
            handle->compilation.log = "nvrtc: error: unrecognized option " + option + " found\n";
            return InvalidOption;
        }
        // Options about speed and precision change nothing here.
    }
    // One at a time: the log and the work folder are named by a counter.
    driver::Guard guard(driver::lock());
    handle->compilation = driver::compile(program);
    return handle->compilation.worked ? Success : CompilationFailed;
}

EMU_API int nvrtcGetPTXSize(Handle *handle, size_t *size) {
    if (!handle || !handle->compilation.worked) return InvalidProgram;
    *size = handle->compilation.image.size() + 1;
    return Success;
}
EMU_API int nvrtcGetPTX(Handle *handle, char *into) {
    if (!handle || !handle->compilation.worked) return InvalidProgram;
    return copy_text(handle->compilation.image, into);
}
EMU_API int nvrtcGetCUBINSize(Handle *handle, size_t *size) { return nvrtcGetPTXSize(handle, size); }
EMU_API int nvrtcGetCUBIN(Handle *handle, char *into) { return nvrtcGetPTX(handle, into); }

EMU_API int nvrtcGetProgramLogSize(Handle *handle, size_t *size) {
    if (!handle) return InvalidProgram;
    *size = handle->compilation.log.size() + 1;
    return Success;
}
EMU_API int nvrtcGetProgramLog(Handle *handle, char *into) {
    if (!handle) return InvalidProgram;
    return copy_text(handle->compilation.log, into);
}

// Scores frames with OpenVINO alone. What it takes and what it leaves out stands in README.txt.
//
//   reference FOLDER [--graph FILE] FRAME.npy...   scores these
//   reference FOLDER [--graph FILE]                compares with golden/, exit status 1 where something differs
//
// FOLDER is the one of model.txt, which says in lines what manifest.json says in JSON.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <openvino/openvino.hpp>

namespace fs = std::filesystem;

struct Image {  // rows x columns x channels, uint8; count of them, one after the other
    size_t count = 1, rows = 0, columns = 0, channels = 1;
    std::vector<uint8_t> data;
    uint8_t at(size_t row, size_t column, size_t channel) const {
        return data[(row * columns + column) * channels + channel];
    }
};

struct Term { size_t column; bool log; double weight, floor; };

struct Model {
    size_t height = 0, width = 0, channels = 0;  // of the network's input
    size_t frame_channels = 0, roi[4] = {0, 0, 0, 0};  // x, y, width, height; width 0 is the whole frame
    std::string fit, interpolation, rule;
    bool takes_frames = false;
    double threshold = 0, center = 0, limit = 1;
    std::vector<std::string> criteria;
    std::vector<Term> terms;
};

static Image empty(size_t rows, size_t columns, size_t channels, uint8_t level = 0) {
    return {1, rows, columns, channels, std::vector<uint8_t>(rows * columns * channels, level)};
}

static Model read_model(const fs::path& path) {
    std::ifstream file(path);
    if (!file) throw std::runtime_error("cannot read " + path.string());
    Model model;
    for (std::string line, key; std::getline(file, line);) {
        std::istringstream words(line);
        if (!(words >> key) || key[0] == '#') continue;
        if (key == "input") words >> model.height >> model.width >> model.channels;
        else if (key == "reference_takes_frames") words >> model.takes_frames;
        else if (key == "frame_channels") words >> model.frame_channels;
        else if (key == "roi") words >> model.roi[0] >> model.roi[1] >> model.roi[2] >> model.roi[3];
        else if (key == "fit") words >> model.fit;
        else if (key == "interpolation") words >> model.interpolation;
        else if (key == "criteria") for (std::string name; words >> name;) model.criteria.push_back(name);
        else if (key == "rule") words >> model.rule >> model.threshold >> model.center >> model.limit;
        else if (key == "term") {
            Term term{};
            std::string transform;
            words >> term.column >> transform >> term.weight >> term.floor;
            term.log = transform == "log";
            model.terms.push_back(term);
        } else throw std::runtime_error(path.string() + " has the unknown key " + key);
        if (words.fail() && key != "criteria") throw std::runtime_error(path.string() + ": cannot read: " + line);
    }
    for (const Term& term : model.terms)
        if (term.column >= model.criteria.size()) throw std::runtime_error(path.string() + ": a term has no criterion");
    return model;
}

// A .npy file of uint8, (H, W), (H, W, C) or (T, H, W, C).
static Image read_npy(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(file), {}};
    if (bytes.size() < 12 || std::memcmp(bytes.data(), "\x93NUMPY", 6) != 0)
        throw std::runtime_error(path.string() + " is no .npy file");
    const bool old = bytes[6] == 1;  // the header's length has 2 bytes in version 1, then 4
    const size_t begin = old ? 10 : 12;
    size_t length = bytes[8] | bytes[9] << 8;
    if (!old) length |= size_t(bytes[10]) << 16 | size_t(bytes[11]) << 24;
    if (begin + length > bytes.size()) throw std::runtime_error(path.string() + " is cut short");
    const std::string header(bytes.begin() + begin, bytes.begin() + begin + length);
    const size_t shape_at = header.find("'shape': (");
    if (header.find("'|u1'") == std::string::npos || header.find("'fortran_order': False") == std::string::npos ||
        shape_at == std::string::npos)
        throw std::runtime_error(path.string() + " is no C-ordered array of uint8: " +
                                 header.substr(0, header.find('}') + 1));
    std::string text = header.substr(shape_at + 10);
    text = text.substr(0, text.find(')'));
    std::replace(text.begin(), text.end(), ',', ' ');
    std::istringstream numbers(text);
    std::vector<size_t> shape;
    for (size_t n; numbers >> n;) shape.push_back(n);
    if (shape.size() < 2 || shape.size() > 4)
        throw std::runtime_error(path.string() + " has " + std::to_string(shape.size()) + " dimensions, expected 2 to 4");
    if (shape.size() == 2) shape.push_back(1);
    if (shape.size() == 3) shape.insert(shape.begin(), 1);
    Image image{shape[0], shape[1], shape[2], shape[3], {bytes.begin() + begin + length, bytes.end()}};
    if (image.data.empty() || image.data.size() != shape[0] * shape[1] * shape[2] * shape[3])
        throw std::runtime_error(path.string() + " does not hold what its header says");
    return image;
}

// Of each output pixel along an axis: the source pixels it is a mean over, and their shares.
static std::vector<std::vector<std::pair<size_t, double>>> shares(size_t n_out, size_t n_in) {
    std::vector<std::vector<std::pair<size_t, double>>> found(n_out);
    const double step = double(n_in) / n_out;
    for (size_t i = 0; i < n_out; ++i) {
        const double first = double(i * n_in) / n_out;
        for (size_t j = size_t(first); j < n_in && j < first + step; ++j) {
            const double covered = std::min(first + step, j + 1.0) - std::max(first, double(j));
            if (covered > 0) found[i].push_back({j, covered / step});
        }
    }
    return found;
}

struct Neighbours { size_t first, second; int64_t weight; };  // weight of the second, in 2048ths

static Neighbours neighbours(size_t i, size_t n_out, size_t n_in) {
    const double place = std::clamp((i + 0.5) * n_in / n_out - 0.5, 0.0, double(n_in - 1));
    const size_t first = size_t(place);
    return {first, std::min(first + 1, n_in - 1), std::llrint((place - first) * 2048)};
}

// As cv::resize gives it but for single grey levels.
static Image resized(const Image& x, size_t height, size_t width, const std::string& interpolation) {
    if (x.rows == height && x.columns == width) return x;
    Image out = empty(height, width, x.channels);
    const bool area = interpolation == "area" && height <= x.rows && width <= x.columns;
    const bool half_up = x.rows == 2 * height && x.columns == 2 * width;
    const auto of_rows = shares(height, x.rows), of_columns = shares(width, x.columns);
    for (size_t r = 0; r < height; ++r)
        for (size_t c = 0; c < width; ++c)
            for (size_t k = 0; k < x.channels; ++k) {
                uint8_t& level = out.data[(r * width + c) * x.channels + k];
                if (interpolation == "nearest") {
                    level = x.at(r * x.rows / height, c * x.columns / width, k);
                } else if (area) {
                    double mean = 0;
                    for (const auto& [row, row_share] : of_rows[r])
                        for (const auto& [column, share] : of_columns[c]) mean += row_share * share * x.at(row, column, k);
                    level = uint8_t(half_up ? std::floor(mean + 0.5) : std::nearbyint(mean));
                } else {
                    const auto [left, right, across] = neighbours(c, width, x.columns);
                    const auto [top, bottom, down] = neighbours(r, height, x.rows);
                    const int64_t above = (x.at(top, left, k) * (2048 - across) + x.at(top, right, k) * across) >> 4;
                    const int64_t below = (x.at(bottom, left, k) * (2048 - across) + x.at(bottom, right, k) * across) >> 4;
                    level = uint8_t(((above * (2048 - down) >> 16) + (below * down >> 16) + 2) >> 2);
                }
            }
    return out;
}

// The network's input of a frame, grey or BGR.
static Image prepared(const Image& frame, const Model& model) {
    const auto [left, top, roi_width, roi_height] = model.roi;
    const size_t columns = roi_width ? roi_width : frame.columns, rows = roi_width ? roi_height : frame.rows;
    if (frame.count != 1 || (frame.channels != 1 && frame.channels != 3) || left + columns > frame.columns ||
        top + rows > frame.rows)
        throw std::runtime_error("a frame is (H, W) or (H, W, 3) and holds the region of interest; this one does not");
    const bool to_grey = model.frame_channels < frame.channels;
    Image x = empty(rows, columns, to_grey ? 1 : frame.channels);
    for (size_t r = 0; r < rows; ++r)
        for (size_t c = 0; c < columns; ++c)
            for (size_t k = 0; k < x.channels; ++k) {
                const size_t row = top + r, column = left + c;
                x.data[(r * columns + c) * x.channels + k] =
                    to_grey ? uint8_t((3735 * frame.at(row, column, 0) + 19235 * frame.at(row, column, 1) +
                                       9798 * frame.at(row, column, 2) + 16384) >> 15)
                            : frame.at(row, column, k);
            }
    size_t height = model.height, width = model.width;
    if (model.fit == "letterbox") {
        const double scale = std::min(double(height) / rows, double(width) / columns);
        height = std::max<size_t>(1, std::min<size_t>(height, size_t(std::nearbyint(rows * scale))));
        width = std::max<size_t>(1, std::min<size_t>(width, size_t(std::nearbyint(columns * scale))));
    }
    const Image content = resized(x, height, width, model.interpolation);
    Image input = empty(model.height, model.width, model.channels, 114);  // the grey of the bars
    const size_t first_row = (model.height - height) / 2, first_column = (model.width - width) / 2;
    for (size_t r = 0; r < height; ++r)
        for (size_t c = 0; c < width; ++c)
            for (size_t k = 0; k < input.channels; ++k)
                input.data[((first_row + r) * model.width + first_column + c) * input.channels + k] =
                    content.at(r, c, content.channels == 1 ? 0 : k);
    return input;
}

// Of each criterion the largest over a frame's network inputs.
static std::vector<double> criteria(ov::InferRequest& request, const Image& inputs, const Model& model) {
    if (inputs.rows != model.height || inputs.columns != model.width || inputs.channels != model.channels)
        throw std::runtime_error("a network input is (" + std::to_string(model.height) + ", " +
                                 std::to_string(model.width) + ", " + std::to_string(model.channels) + "); this one is not");
    const size_t size = model.height * model.width * model.channels;
    std::vector<double> worst(model.criteria.size(), -INFINITY);
    for (size_t i = 0; i < inputs.count; ++i) {
        ov::Tensor tensor(ov::element::u8, {1, model.height, model.width, model.channels});
        std::memcpy(tensor.data(), inputs.data.data() + i * size, size);
        request.set_input_tensor(tensor);
        request.infer();
        const ov::Tensor found = request.get_tensor("criteria");
        if (found.get_size() != worst.size()) throw std::runtime_error("the graph does not give the model's criteria");
        for (size_t k = 0; k < worst.size(); ++k) worst[k] = std::max(worst[k], double(found.data<const float>()[k]));
    }
    return worst;
}

// Higher is more anomalous: 0 is the median training image, 1 the limit.
static double score(const std::vector<double>& values, const Model& model) {
    double total = model.rule == "union" ? -INFINITY : 0;
    for (const Term& term : model.terms) {
        const double above = values[term.column] - term.floor;
        const double part = term.weight * (term.log ? std::log(std::max(above, 1e-12)) : above);
        total = model.rule == "union" ? std::max(total, part) : total + part;
    }
    return (total - model.center) / (model.limit - model.center);
}

static std::vector<std::map<std::string, std::string>> read_csv(const fs::path& path) {
    std::ifstream file(path);
    if (!file) throw std::runtime_error("cannot read " + path.string());
    std::vector<std::string> names;
    std::vector<std::map<std::string, std::string>> rows;
    for (std::string line, cell; std::getline(file, line);) {
        if (!line.empty() && line.back() == '\r') line.pop_back();
        std::istringstream cells(line);
        std::vector<std::string> found;
        while (std::getline(cells, cell, ',')) found.push_back(cell);
        if (names.empty()) { names = found; continue; }
        auto& row = rows.emplace_back();
        for (size_t i = 0; i < std::min(names.size(), found.size()); ++i) row[names[i]] = found[i];
    }
    return rows;
}

static int run(const std::vector<std::string>& words) {
    if (words.empty()) throw std::runtime_error("usage: reference FOLDER [--graph FILE] [FRAME.npy...]");
    const fs::path folder = words[0];
    std::string graph = "detector.onnx";
    std::vector<std::map<std::string, std::string>> rows;
    const Model model = read_model(folder / "model.txt");
    for (size_t i = 1; i < words.size(); ++i) {
        if (words[i] == "--graph" && i + 1 < words.size()) graph = words[++i];
        else rows.push_back({{"file", words[i]}, {"kind", model.takes_frames ? "frame" : "input"}});
    }
    const bool compares = rows.empty();
    if (compares) rows = read_csv(folder / "golden" / (fs::path(graph).stem().string() + ".csv"));
    ov::Core core;
    // Its own choice is bfloat16 where the CPU has it, which gives other numbers.
    auto compiled = core.compile_model(core.read_model((folder / graph).string()), "CPU",
                                       ov::hint::inference_precision(ov::element::f32),
                                       ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY));
    ov::InferRequest request = compiled.create_infer_request();
    int n_differ = 0;
    for (auto& row : rows) {
        const Image given = read_npy(compares ? folder / "golden" / row["file"] : fs::path(row["file"]));
        const auto values = criteria(request, row["kind"] == "frame" ? prepared(given, model) : given, model);
        const double found = score(values, model);
        const std::string verdict = found > model.threshold ? "anomalous" : "normal";
        std::printf("%s %.6f %s", row["file"].c_str(), found, verdict.c_str());
        for (size_t k = 0; k < values.size(); ++k) std::printf(" %s=%.6g", model.criteria[k].c_str(), values[k]);
        std::printf("\n");
        if (!compares) continue;
        const double error = std::abs(std::max(found, 0.0) - std::max(std::stod(row["score"]), 0.0));
        if (!(error <= std::stod(row["tolerance"])) || (row["decision"] != verdict && row["decision"] != "either")) {
            std::printf("  differs: expected %s within %s, %s\n", row["score"].c_str(), row["tolerance"].c_str(),
                        row["decision"].c_str());
            ++n_differ;
        }
    }
    return n_differ ? 1 : 0;
}

int main(int n_words, char** words) {
    try {
        return run({words + 1, words + n_words});
    } catch (const std::exception& error) {
        std::cerr << "reference: " << error.what() << "\n";
        return 2;
    }
}

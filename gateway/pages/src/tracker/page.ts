import './live-tracker'
